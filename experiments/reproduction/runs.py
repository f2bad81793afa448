"""One run: train an arm with a seed, test it under conditions, and keep what was measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agents.distributed import is_main, wait
from agents.tracking import code_version
from experiments.evaluation.config import differences
from experiments.inputs import InputError
from experiments.reproduction.arms import ARMS, CONDITIONS, Arm, Condition, Run
from experiments.reproduction.scales import Scale
from experiments.reproduction.testing import SCORES, PolicyTest
from experiments.reproduction.warm_starts import Imitator
from experiments.train import train
from experiments.train_config import TrainConfig, load_config
from refine_env.files import write_whole

SETTINGS = "run-settings.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of a scale lie."""

    scale: Scale
    root: Path

    def run(self, run: Run) -> Path:
        return self.root / "runs" / run.arm / f"seed-{run.seed}"

    def tested(self, run: Run, condition: Condition) -> Path:
        return self.run(run) / "tests" / condition.name

    def cost(self, name: str) -> Path:
        """The file that says what a piece of work took."""
        return self.root / "costs" / f"{name}.json"

    def is_trained(self, run: Run) -> bool:
        return (self.run(run) / "policy").is_dir()

    def is_tested(self, run: Run, condition: Condition) -> bool:
        return (self.tested(run, condition) / SCORES).is_file()


def imitator_of(arm: Arm, seed: int) -> Imitator:
    """The warm start of a run."""
    return Imitator(arm.demonstrator, arm.size, seed)


def train_config(place: Place, run: Run) -> TrainConfig:
    """The settings of a run's training. Raises `InputError` for an arm that there is not."""
    if run.arm not in ARMS:
        raise InputError(f"there is no arm {run.arm!r}; known: {', '.join(ARMS)}")
    arm, scale = ARMS[run.arm], place.scale
    if scale.warm_start is not None:
        policy = str(imitator_of(arm, run.seed).folder(place.root))
    else:
        policy = scale.policies[arm.size]
    config = load_config(
        Path(scale.config[arm.demonstrator.protocol]),
        [
            *scale.overrides,
            f"policy={policy}",
            f"output={place.run(run)}",
            f"grpo.seed={run.seed}",
            "resume=auto",
        ],
    )
    return replace(config, env_options={**config.env_options, **scale.options(arm)})


def perform(place: Place, run: Run, conditions: Iterable[Condition]) -> None:
    """Train and test what is not done yet. Under torchrun all processes take part.

    Raises `InputError` where the folder holds a run of other settings.
    """
    config = train_config(place, run)
    arm = ARMS[run.arm]
    if place.scale.prompts(arm):
        _check_settings(place, run, config)
    elif not place.is_trained(run):
        _check_settings(place, run, config)
        train(config)
        wait()  # for the policy, which the main process puts in its place
        if is_main():
            shutil.rmtree(place.run(run) / "checkpoints", ignore_errors=True)
    for condition in conditions:
        if not place.is_tested(run, condition):
            test = PolicyTest(arm, place.scale, config, condition)
            test.write(place.tested(run, condition), place.run(run) / "policy")


def _check_settings(place: Place, run: Run, config: TrainConfig) -> None:
    """Note the settings of a run, or compare them with those that it was begun with."""
    folder = place.run(run)
    told = json.loads(json.dumps({**config.plain(), "commit": None}, default=str))
    path = folder / SETTINGS
    if path.is_file():
        there = {**json.loads(path.read_text(encoding="utf-8")), "commit": None}
        if there != told:
            raise InputError(
                f"{folder} was begun with other settings ({'; '.join(differences(there, told))}): "
                "remove it, or name another --runs"
            )
        return
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**told, "commit": code_version()}, indent=1) + "\n")


def condition_of(name: str) -> Condition:
    """The condition of a name. Raises `InputError` for one that there is not."""
    if name not in CONDITIONS:
        raise InputError(f"there is no condition {name!r}; known: {', '.join(CONDITIONS)}")
    return CONDITIONS[name]
