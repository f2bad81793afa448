"""The two scales of the experiments: a tiny policy in an invented world, a language model on the
seven datasets. What they share is in `runs`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.factory import PROTOCOL_FILE, TINY, model_folder
from experiments.reproduction.arms import Arm, Condition, ModelSize, ProtocolName

PROTOCOLS = Path(__file__).parent / "protocols"


@dataclass(frozen=True, slots=True)
class TinyModel:
    """The shape of a model of embedded scale."""

    layers: int
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """How the policies of embedded scale are made, before any reward is seen."""

    sizes: Mapping[ModelSize, TinyModel]
    protocols: Mapping[ProtocolName, Path]
    copy_steps: int
    """Of repeating random tokens: once for each size, as the pretraining of a base model."""
    reading_steps: int
    """Of imitating the scripted policy in all protocols at once: part of the base, too."""
    reading_worlds: tuple[int, ...]
    """Seeds of the worlds that the base reads; others than `worlds`, training's and the test's."""
    episode_steps: int
    """Of imitating the scripted policy: for each demonstrator and seed."""
    episode_rate: float
    """Learning rate of these; a high one undoes what the base has learned to read."""
    worlds: tuple[int, ...]
    """Seeds of the worlds that the scripted episodes are from; not that of training and test."""
    micro_batch: int = 8
    """Episodes of like length in a backward pass."""
    context: int = 2048
    """Tokens that the policy may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """Questions to test on."""

    env: str
    env_options: Mapping[str, Any] = field(default_factory=dict)
    questions: int
    """Drawn with seed 0; all where there are fewer."""
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the arms are trained and tested with."""

    name: str
    config: Mapping[ProtocolName, str]
    """Protocol -> the configuration of `refine-env train`."""
    overrides: tuple[str, ...]
    """Changes of it, as `key=value`."""
    env_options: Mapping[str, Any]
    """Of training and test."""
    tests: tuple[QuestionSet, ...]
    noisy_test: QuestionSet | None = None
    """What noise is measured on, where `tests` know none."""
    policies: Mapping[ModelSize, str] = field(default_factory=dict)
    """Size -> hub name, where there is no warm start."""
    warm_start: WarmStart | None = None
    launch: tuple[str, ...] = ()
    """Command before `-m experiments.reproduction.one_run`; without one, workers of this process
    run several at a time."""
    turn_tokens: int
    """Of an agent's turn, where documents are dropped from its context."""

    def options(self, arm: Arm, condition: Condition | None = None) -> dict[str, Any]:
        """The arguments of the environment that differ from its defaults."""
        options = {**self.env_options, "reward": arm.reward, **arm.env_options}
        if arm.demonstrator.searches is not None:
            options["max_turns"] = max(2, arm.demonstrator.searches + 1)
        if self.warm_start is None:
            options["protocol"] = arm.demonstrator.protocol
        return {**options, **(condition.env_options if condition else {})}

    def has(self, arm: Arm) -> bool:
        """Whether there is such an arm: without a warm start, habits make no difference."""
        return self.warm_start is not None or not arm.demonstrator.is_habit

    def prompts(self, arm: Arm) -> bool:
        """Whether a prompt stands for this arm, which is not trained."""
        return self.warm_start is None and bool(arm.untrained)

    def tested_on(self, condition: Condition) -> Sequence[QuestionSet]:
        """The test sets of a condition."""
        if "noise" in condition.env_options and self.noisy_test is not None:
            return (self.noisy_test,)
        return self.tests


MINI = Scale(
    name="mini",
    config=dict.fromkeys(("autorefine", "search_r1", "research"), "demo"),
    overrides=(
        "wandb=disabled",
        "held_out_every=5",
        "held_out_questions=150",
        "grpo.steps=30",
        "grpo.completion_tokens=1600",
        "grpo.save_steps=10",
        "grpo.keep_checkpoints=1",
    ),
    env_options={"hops": [1, 2, 3], "max_turns": 5},
    tests=(QuestionSet(env="AutoRefine-MiniWiki-v0", questions=600),),
    warm_start=WarmStart(
        sizes={
            "small": TinyModel(layers=2, hidden=32),
            "usual": TinyModel(layers=3, hidden=64),
            "large": TinyModel(layers=4, hidden=96),
        },
        protocols={
            "autorefine": Path(model_folder(TINY)) / PROTOCOL_FILE,
            "search_r1": PROTOCOLS / "search-r1-tiny.toml",
            "research": PROTOCOLS / "research-tiny.toml",
        },
        copy_steps=1000,
        reading_steps=1200,
        reading_worlds=(9, 10, 11),
        episode_steps=100,
        episode_rate=5e-4,
        worlds=(1, 2, 3, 4),
    ),
    turn_tokens=40,
)
"""A policy of 0.16 M parameters on MiniWiki, level `tiny`, with questions of up to three hops."""

_SEVEN = ("NQ", "TriviaQA", "PopQA", "HotpotQA", "2WikiMultihopQA", "MuSiQue", "Bamboogle")

FULL = Scale(
    name="full",
    config={
        "autorefine": "autorefine-3b",
        "search_r1": "search-r1-3b",
        "research": "search-r1-3b",
    },
    overrides=(),
    env_options={"max_turns": 6},
    tests=tuple(
        QuestionSet(
            env=f"AutoRefine-{name}-v0",
            env_options={"retriever": "http://127.0.0.1:8000"},
            questions=1_000_000,
            split="test" if name in ("NQ", "TriviaQA", "PopQA", "Bamboogle") else "dev",
        )
        for name in _SEVEN
    ),
    noisy_test=QuestionSet(
        env="AutoRefine-MiniWiki-v0", env_options={"level": "full"}, questions=2000
    ),
    policies={
        "small": "Qwen/Qwen2.5-0.5B",
        "usual": "Qwen/Qwen2.5-3B",
        "large": "Qwen/Qwen2.5-7B",
    },
    launch=(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8"),
    turn_tokens=512,
)
"""Qwen2.5-3B, NQ and HotpotQA, the seven test sets, wiki-18 behind a search server, 8 GPUs."""

SCALES: Mapping[str, Scale] = {scale.name: scale for scale in (MINI, FULL)}
