"""Training runs side by side, from their folders alone: one page, its text, figures and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from experiments.inputs import InputError, extra
from experiments.pages import page
from experiments.run_report.groups import APART, Group, differing, group_runs, told_settings
from experiments.run_report.runs import HELD_OUT, TrainingRun, named_apart, read_run
from experiments.run_report.seeds import (
    FIGURES,
    GroupDifference,
    differences,
    estimates,
    figure_of,
)
from experiments.run_report.text import build, comparability
from experiments.run_report.transcripts import best_and_worst
from experiments.training_folders import find_runs
from refine_env.files import write_whole
from refine_env.sections import visible

PAGE, TEXT, DATA = "report.html", "report.md", "report.json"
_CURVES = (
    HELD_OUT, "reward/total", "metric/searches", "metric/search_success", "metric/refine_success",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What is compared, and where the report is written."""

    runs: Sequence[str | Path]
    """Folders of training runs, folders that hold such, or patterns such as `runs/sweep/*`."""
    output: Path = Path("runs/report")
    group: Sequence[str] = ()
    """Settings or facts by which runs are grouped; without any, all settings but the seed."""
    title: str | None = None
    """None: how many runs there are."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    title: str
    runs: Sequence[TrainingRun]
    groups: Sequence[Group]
    differences: Sequence[GroupDifference]
    notes: Sequence[str]
    """What is to be known of the runs together."""


def run(config: ReportConfig, console: Console | None = None) -> Report:
    """Write the report and print where it is.

    Raises `InputError` for names that are no runs, a setting to group by that no run has, and
    where matplotlib is missing.
    """
    console = console or Console()
    with extra("train"):
        import matplotlib.figure  # noqa: F401  # before anything is read and written

        from experiments.run_report.plots import draw_all
    found = find_runs(config.runs)
    progress = track(
        found.runs, "Reading runs", console=console, transient=True, disable=not console.is_terminal
    )
    runs = named_apart([read_run(folder) for folder in progress])
    older = config.output.resolve()  # a report among the runs is what this one replaces
    left_out = [name for name in found.left_out if Path(name).resolve() != older]
    report = compare(runs, config, left_out)
    _make_folder(config.output)
    with console.status("Drawing ..."):
        plots = draw_all(report.groups, config.output)
        shown = best_and_worst(runs)
        parts = (report.title, runs, report.groups, report.differences, report.notes)
        text = build(*parts, plots, shown)
        write_whole(config.output / DATA, json.dumps(as_data(report), indent=1, allow_nan=False))
        write_whole(config.output / TEXT, text)
        write_whole(config.output / PAGE, page(report.title, text, config.output))
    for note in (*(f"{run.name}: {note}" for run in runs for note in run.notes), *report.notes):
        console.print(visible(note), markup=False, highlight=False, soft_wrap=True)
    counts = f"{_plural(len(runs), 'run')} in {_plural(len(report.groups), 'group')}"
    console.print(counts, highlight=False)
    console.print(config.output / PAGE, markup=False, highlight=False, soft_wrap=True)
    return report


def compare(
    runs: Sequence[TrainingRun], config: ReportConfig, left_out: Sequence[str] = ()
) -> Report:
    """Group the runs and compare the groups. `left_out` are names that are no runs."""
    groups = group_runs(runs, config.group)
    notes = comparability(runs, groups)
    notes += _mixed_groups(groups)
    notes += [f"{name} is no training run and is left out" for name in left_out]
    counts = _plural(len(runs), "training run")
    title = config.title or (f"{counts} side by side" if len(runs) > 1 else counts)
    return Report(title, runs, groups, differences(groups), notes)


def _mixed_groups(groups: Sequence[Group]) -> list[str]:
    """Notes on groups whose runs differ in more than their seeds, as those of `--group` may."""
    notes = []
    for group in groups:
        differ, _ = differing(group.runs)
        more = [name for name in differ if name not in APART]
        if more:
            notes.append(f"{group.name}: its runs differ in {', '.join(more)}, too.")
    return notes


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: no folder can be made there ({error})") from error


def as_data(report: Report) -> dict[str, Any]:
    """All figures of the report, as JSON holds them."""
    return {
        "title": report.title,
        "runs": [_run_data(run) for run in report.runs],
        "groups": [
            {
                "name": group.name,
                "values": dict(group.values),
                "runs": [run.name for run in group.runs],
                "figures": {name: asdict(value) for name, value in estimates(group).items()},
            }
            for group in report.groups
        ],
        "differences": [asdict(one) for one in report.differences],
        "interval": "95 %, Student's t over seeds; none with one seed",
        "notes": list(report.notes),
    }


def _run_data(run: TrainingRun) -> Mapping[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        **run.facts,
        "status": run.status,
        "steps": run.steps,
        "planned_steps": run.planned,
        "seconds": run.seconds,
        "seed": run.seed,
        "last": {name: figure_of(run, name) for name in FIGURES},
        "last_evaluation": None if run.held_out is None else dict(run.held_out),
        "best": None if run.best is None else asdict(run.best),
        "settings": told_settings(run),
        "curves": {name: points for name in _CURVES if (points := run.points(name))},
        "notes": list(run.notes),
    }
