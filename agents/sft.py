"""Supervised fine-tuning on rollouts with TRL: the policy learns what the mask says it wrote."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.rollout import Rollout

IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class SFTSettings:
    """How long and how fast to train."""

    steps: int = 600
    """Optimiser steps."""
    batch_size: int = 32
    """Sequences a step."""
    learning_rate: float = 2e-3
    """The highest; linear warm-up over a twentieth of the steps, then a cosine to zero."""
    weight_decay: float = 0.01
    seed: int = 0
    micro_batch: int | None = None
    """Sequences of one backward pass, a divisor of the batch; None takes the batch."""
    bf16: bool = False
    gradient_checkpointing: bool = False
    group_by_length: bool = False
    """Sequences of like length within a batch share a micro-batch: the same batches at random, with
    less padding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch is not None and (
            self.micro_batch < 1 or self.batch_size % self.micro_batch
        ):
            raise ValueError(f"micro_batch ({self.micro_batch}) must divide {self.batch_size}")


def rollout_features(rollout: Rollout, *, train_on_documents: bool = False) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a rollout; what the environment wrote is not a label."""
    ids = [*rollout.prompt_ids, *rollout.completion_ids]
    mask = [0] * len(rollout.prompt_ids) + rollout.mask
    if train_on_documents:
        mask = [1] * len(ids)
    labels = [token if keep else IGNORED_LABEL for token, keep in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}


def train_sft(
    model: Any,
    tokenizer: Any,
    features: Sequence[dict[str, list[int]]],
    settings: SFTSettings,
    output_dir: str | Path,
    callbacks: Sequence[Any] = (),
    quiet: bool = False,
) -> float:
    """Train `model` in place; the mean loss of the run (nats a token).

    `features` are dicts of `input_ids` and `labels` as `rollout_features` makes them. `quiet`
    leaves it to the callbacks to show how far it is.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    micro_batch = settings.micro_batch or settings.batch_size
    if settings.group_by_length:
        features = [features[i] for i in order_by_length(features, settings)]
    config = SFTConfig(
        output_dir=str(output_dir),
        max_steps=settings.steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=settings.batch_size // micro_batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta2=0.99,
        warmup_steps=max(1, settings.steps // 20),
        lr_scheduler_type="cosine",
        train_sampling_strategy="sequential" if settings.group_by_length else "random",
        seed=settings.seed,
        data_seed=settings.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        bf16=settings.bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=str(model.device) == "cpu",
        report_to="none",
        save_strategy="no",
        logging_steps=max(1, min(50, settings.steps // 20)),
        disable_tqdm=quiet or not sys.stderr.isatty(),
        dataloader_pin_memory=False,
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(list(features)),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return float(trainer.train().training_loss)


def order_by_length(features: Sequence[dict[str, list[int]]], settings: SFTSettings) -> list[int]:
    """An order for all steps: batches at random, epoch after epoch, each sorted by length."""
    generator = np.random.default_rng([settings.seed, 1])
    wanted = settings.steps * settings.batch_size
    epochs = math.ceil(wanted / len(features))
    drawn = np.concatenate([generator.permutation(len(features)) for _ in range(epochs)])[:wanted]
    lengths = np.array([len(row["input_ids"]) for row in features])
    batches = drawn.reshape(settings.steps, settings.batch_size)
    places = np.argsort(lengths[batches], axis=1, kind="stable")
    return [int(i) for i in np.take_along_axis(batches, places, axis=1).ravel()]
