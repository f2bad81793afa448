"""Which runs are missing, and carrying them out: several at a time, resumable."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.fleet import Fleet, Runner
from experiments.inputs import InputError
from experiments.reproduction.arms import ARMS, Condition, Run
from experiments.reproduction.runs import Place, imitator_of, perform
from experiments.reproduction.warm_starts import Base, Imitator, make_base, make_imitator
from refine_env.files import write_whole

Wanted = Mapping[Run, Sequence[Condition]]
"""Run -> the conditions that it is tested under."""


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work of one process: a warm start, or a run with its tests."""

    work: Base | Imitator | Run
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> Base | Imitator | Run:
        return self.work

    @property
    def keys(self) -> Sequence[Base | Imitator | Run]:
        return (self.work,)

    def only(self, keys: Sequence[object]) -> Task:
        return self

    def carry_out(self, place: Place) -> None:
        """Do it, and note what it took; what was done before is left alone."""
        cpu, wall = time.process_time(), time.monotonic()
        self._do(place)
        _note_cost(place.cost(str(self.work)), time.process_time() - cpu, time.monotonic() - wall)

    def _do(self, place: Place) -> None:
        settings = place.scale.warm_start
        if isinstance(self.work, Run):
            perform(place, self.work, self.conditions)
        elif settings is not None and isinstance(self.work, Base):
            make_base(self.work, settings, place.root)
        elif settings is not None and isinstance(self.work, Imitator):
            make_imitator(self.work, settings, place.root)


def _note_cost(path: Path, cpu: float, wall: float) -> None:
    """Add to what a task took before, in sessions that were interrupted or tested less."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    total = {
        "cpu_seconds": round(before.get("cpu_seconds", 0.0) + cpu, 1),
        "wall_seconds": round(before.get("wall_seconds", 0.0) + wall, 1),
    }
    write_whole(path, json.dumps(total) + "\n")


def missing(place: Place, wanted: Wanted) -> list[list[Task]]:
    """What is to be done, in stages: each needs the one before."""
    stages: list[dict[Task, None]] = [{}, {}, {}]
    for run, conditions in wanted.items():
        left = tuple(c for c in conditions if not place.is_tested(run, c))
        trained = place.is_trained(run)
        if trained and not left:
            continue
        stages[2][Task(run, left)] = None
        if place.scale.warm_start is None or trained:
            continue
        start = imitator_of(ARMS[run.arm], run.seed)
        if not start.folder(place.root).is_dir():
            stages[1][Task(start)] = None
            if not Base(start.size).folder(place.root).is_dir():
                stages[0][Task(Base(start.size))] = None
    return [list(stage) for stage in stages]


def carry_out(place: Place, wanted: Wanted, workers: int, console: Console) -> None:
    """Do all that is missing. Interrupted at any moment, it goes on where it was.

    Raises `InputError` where a run fails for a reason that the user can mend.
    """
    stages = missing(place, wanted)
    names = ("bases", "warm starts", "runs")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        for name, stage in zip(names, stages, strict=True):
            if not stage:
                continue
            bar = progress.add_task(name, total=len(stage), last="")
            for number, done in enumerate(_reports(place, stage, workers), start=1):
                progress.update(bar, completed=number, last=str(done.key))
                if not console.is_terminal:
                    console.print(f"{name} {number}/{len(stage)}: {done.key}", soft_wrap=True)


def _reports(place: Place, stage: Sequence[Task], workers: int) -> Iterable[Task]:
    """Each task of a stage as it is done."""
    if place.scale.launch:
        for task in stage:
            _launch(place, task)
            yield task
        return
    yield from Fleet(partial(open_runner, place), min(workers, len(stage))).run(stage)


def open_runner(place: Place) -> Runner:
    """What carries out tasks in a worker of a fleet."""
    import torch

    from experiments.progress import quiet_libraries

    torch.set_num_threads(1)  # more are slower for models this small
    quiet_libraries()

    def run(chunk: Any, report: Any) -> None:
        chunk.carry_out(place)
        report(chunk)

    return run


def _launch(place: Place, task: Task) -> None:
    """Carry out a run in processes of its own, by the command of the scale."""
    assert isinstance(task.work, Run)
    command = [
        *place.scale.launch,
        *("-m", "experiments.reproduction.one_run", place.scale.name, str(place.root)),
        *(task.work.arm, str(task.work.seed), *(c.name for c in task.conditions)),
    ]
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 (our own words)
    except OSError as error:
        raise InputError(f"{command[0]} cannot be started: {error}") from error
    if code:
        print(" ".join(command), file=sys.stderr)
        raise InputError(
            f"the run {task.work} ended with code {code}; its messages stand above. The same "
            "command goes on with it"
        )
