"""The policies that training starts from at embedded scale: one base for each size, and from it,
for each demonstrator and seed, one that has imitated the same scripted episodes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from agents import tiny
from agents.factory import PROTOCOL_FILE
from agents.models import load_policy
from agents.warm_start import Habits, imitate, pretrain
from experiments.reproduction.arms import Demonstrator, ModelSize
from experiments.reproduction.scales import WarmStart
from refine_env.files import whole_folder
from refine_env.protocols import load_protocol

BASE_SEED = 0


@dataclass(frozen=True, slots=True)
class Base:
    """A model that copies, and knows neither a world nor a protocol."""

    size: ModelSize

    def __str__(self) -> str:
        return f"base, {self.size}"

    def folder(self, root: Path) -> Path:
        return root / "warm-starts" / f"base-{self.size}"


@dataclass(frozen=True, slots=True)
class Imitator:
    """A base that has imitated a demonstrator."""

    demonstrator: Demonstrator
    size: ModelSize
    seed: int

    def __str__(self) -> str:
        return f"warm start, {self._name}, seed {self.seed}"

    @property
    def _name(self) -> str:
        return self.demonstrator.name + ("" if self.size == "usual" else f"-{self.size}")

    def folder(self, root: Path) -> Path:
        return root / "warm-starts" / self._name / f"seed-{self.seed}"


def make_base(base: Base, settings: WarmStart, root: Path) -> None:
    """Train a base, unless it is there. All protocols share its tokens."""
    if base.folder(root).is_dir():
        return
    tokenizer = tiny.build_tokenizer(*(load_protocol(p) for p in settings.protocols.values()))
    shape = settings.sizes[base.size]
    model = tiny.build_model(
        tokenizer,
        seed=BASE_SEED,
        layers=shape.layers,
        hidden=shape.hidden,
        context=settings.context,
    )
    pretrain(model, tokenizer, settings.copy_steps, BASE_SEED, quiet=True)
    with whole_folder(base.folder(root)) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def make_imitator(imitator: Imitator, settings: WarmStart, root: Path) -> None:
    """Train the policy that an arm starts from, unless it is there. Its base has to be."""
    if imitator.folder(root).is_dir():
        return
    model, tokenizer = load_policy(str(Base(imitator.size).folder(root)))
    protocol = settings.protocols[imitator.demonstrator.protocol]
    imitate(
        model,
        tokenizer,
        protocol,
        steps=settings.episode_steps,
        seed=imitator.seed,
        worlds=settings.worlds,
        hops=(1, 2, 3),
        habits=Habits(
            searches=imitator.demonstrator.searches,
            notes_as_thoughts=imitator.demonstrator.notes_as_thoughts,
        ),
        micro_batch=settings.micro_batch,
        quiet=True,
    )
    with whole_folder(imitator.folder(root)) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        shutil.copyfile(protocol, folder / PROTOCOL_FILE)
