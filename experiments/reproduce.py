"""`refine-env reproduce`: train and test what a part wants, then write its section."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.folder_lock import lock_folder
from experiments.inputs import InputError
from experiments.reproduction.arms import Condition, Run
from experiments.reproduction.registry import PARTS
from experiments.reproduction.results import Results
from experiments.reproduction.runs import Place
from experiments.reproduction.scales import SCALES
from experiments.reproduction.schedule import carry_out, missing
from experiments.reproduction.statistics import Claim, Verdict
from experiments.reproduction.writing import write_part, write_report
from refine_env.suggestions import did_you_mean

TITLES = {
    "mini": "AutoRefine's claims at embedded scale",
    "full": "AutoRefine's claims, run again",
}
_VERDICTS: Mapping[Verdict, str] = {"shown": "green", "not shown": "yellow", "opposite": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceConfig:
    """What to run. Raises `InputError` for a name that there is not."""

    parts: tuple[str, ...]
    """Names; `all` for all of them."""
    scale: str = "mini"
    seeds: int = 5
    workers: int | None = None
    """Runs side by side; None takes a core for each. Alone at embedded scale."""
    runs: Path | None = None
    """Folder of the runs; None takes `runs/reproduce/<scale>`."""
    output: Path | None = None
    """Folder of the report; None takes `report` in that of the runs."""
    launch: str | None = None
    """Command that starts the processes of a run; None takes torchrun with eight. At full scale."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise InputError(f"there is no scale {self.scale!r}; known: {', '.join(SCALES)}")
        for name in self.names:
            if name not in PARTS:
                advice = did_you_mean(name, PARTS) or f"known: {', '.join(PARTS)}, all"
                raise InputError(f"there is no part {name!r}; {advice}")
        if self.seeds < 1:
            raise InputError(f"--seeds must be at least 1, got {self.seeds}")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers must be at least 1, got {self.workers}")

        if self.launch is not None and not SCALES[self.scale].launch:
            raise InputError(
                f"--launch is for full scale: at {self.scale} workers train, --workers"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(PARTS) if "all" in self.parts else self.parts

    @property
    def place(self) -> Place:
        scale = SCALES[self.scale]
        if self.launch is not None:
            scale = replace(scale, launch=tuple(shlex.split(self.launch)))
        return Place(scale, self.runs or Path("runs/reproduce") / self.scale)

    @property
    def report(self) -> Path:
        return self.output or self.place.root / "report"


def run(config: ReproduceConfig, console: Console | None = None) -> None:
    """Carry out what is missing, write each part as soon as its runs are there, and the report."""
    console = console or Console()
    place, seeds = config.place, tuple(range(config.seeds))
    if config.dry_run:
        _preview(config, console)
        return
    workers = config.workers or os.cpu_count() or 1
    for name in config.names:
        part = PARTS[name]
        wanted = part.wanted(place.scale, seeds)
        left = sum(map(len, missing(place, wanted)))
        _announce(name, len(wanted), left, console)
        if left:
            place.root.mkdir(parents=True, exist_ok=True)
            with lock_folder(place.root, "reproduction"):
                carry_out(place, wanted, workers, console)
        findings = write_part(part, Results(place, seeds), config.report / name)
        _tell(part.title, findings.claims, console)
        write_report(config.report, TITLES[config.scale])
    console.print(f"report {config.report / 'report.html'}", soft_wrap=True)


def _announce(name: str, runs: int, left: int, console: Console) -> None:
    told = f"{left} pieces of work are missing" if left else "all of them are there"
    console.print(f"{name}: {runs} runs, {told}", highlight=False)


def _tell(title: str, claims: Sequence[Claim], console: Console) -> None:
    table = Table(title=title)
    for column in ("claim", "here", "verdict"):
        table.add_column(column)
    for claim in claims:
        verdict = f"[{_VERDICTS[claim.verdict]}]{claim.verdict}[/]"
        table.add_row(escape(claim.text), escape(claim.ours), verdict)
    if claims:
        console.print(table)


def _preview(config: ReproduceConfig, console: Console) -> None:
    """Say what would be done."""
    place, seeds = config.place, tuple(range(config.seeds))
    wanted: dict[Run, tuple[Condition, ...]] = {}
    for name in config.names:
        for run, conditions in PARTS[name].wanted(place.scale, seeds).items():
            wanted[run] = tuple(dict.fromkeys((*wanted.get(run, ()), *conditions)))
    stages = missing(place, wanted)
    for label, stage in zip(("base", "warm start", "run"), stages, strict=True):
        for task in stage:
            tests = ", ".join(condition.name for condition in task.conditions)
            console.print(
                f"{task.work}" if label != "run" else f"run {task.work}: train, test ({tests})",
                soft_wrap=True, highlight=False,
            )  # fmt: skip
    console.print(f"{sum(map(len, stages))} pieces of work", highlight=False)
