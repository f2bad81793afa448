"""The policies that training starts from at embedded scale: one base for each size, which can read
in every protocol, and from it, for each demonstrator and seed, one that has imitated the same
scripted episodes.
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
HOPS = (1, 2, 3)
READERS = (
    Demonstrator("autorefine"),
    Demonstrator("search_r1"),
    Demonstrator("research"),
    Demonstrator("search_r1", notes_as_thoughts=True),
)
"""What a base imitates, in equal shares. Without this a policy is tested for how fast it learned to
read in the words of its protocol: reading comes late and all at once."""


@dataclass(frozen=True, slots=True)
class Base:
    """A model that copies, and reads alike in all protocols."""

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
    imitate(
        model,
        tokenizer,
        [_demonstration(demonstrator, settings) for demonstrator in READERS],
        steps=settings.reading_steps,
        seed=BASE_SEED,
        worlds=settings.reading_worlds,
        hops=HOPS,
        micro_batch=settings.micro_batch,
        quiet=True,
    )
    with whole_folder(base.folder(root)) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def make_imitator(imitator: Imitator, settings: WarmStart, root: Path) -> None:
    """Train the policy that an arm starts from, unless it is there. Its base has to be."""
    if imitator.folder(root).is_dir():
        return
    model, tokenizer = load_policy(str(Base(imitator.size).folder(root)))
    protocol, habits = _demonstration(imitator.demonstrator, settings)
    imitate(
        model,
        tokenizer,
        [(protocol, habits)],
        steps=settings.episode_steps,
        seed=imitator.seed,
        worlds=settings.worlds,
        hops=HOPS,
        depths=imitator.demonstrator.depths,
        learning_rate=settings.episode_rate,
        micro_batch=settings.micro_batch,
        quiet=True,
    )
    with whole_folder(imitator.folder(root)) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        shutil.copyfile(protocol, folder / PROTOCOL_FILE)


def _demonstration(demonstrator: Demonstrator, settings: WarmStart) -> tuple[Path, Habits]:
    """The protocol's file and the habits that `agents.warm_start.imitate` takes."""
    habits = Habits(
        searches=demonstrator.searches,
        notes_as_thoughts=demonstrator.notes_as_thoughts,
        drops_documents=demonstrator.drops_documents,
    )
    return settings.protocols[demonstrator.protocol], habits
