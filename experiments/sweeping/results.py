"""The runs of a sweep, or any runs, as rows: what was varied, what came out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from agents.tracking import METRICS, read_about
from experiments.inputs import InputError
from experiments.settings_text import HOUSEKEEPING, flat
from experiments.sweeping.records import SweepRecord, metric_history, read_record
from experiments.training_folders import find_runs

DEFAULT_METRIC = "held_out/reward"
_CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run."""

    id: str
    state: str
    """running, finished, failed or stopped."""
    parameters: Mapping[str, Any]
    """Name with dots -> value; of runs without a sweep's record, all settings."""
    value: float | None
    """The last value of the metric; None where the run has told none."""
    best: float | None
    """The best value of the metric over the run."""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Rows with the metric that they are compared by, the best first."""

    name: str
    metric: str
    maximize: bool
    rows: Sequence[Row]
    varied: Sequence[str] = ()
    """Parameters that have more than one value, those of which others follow alone."""
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """A varied parameter -> others that have one value for each of its values, and none else."""
    command: Sequence[str] = ()
    commit: str | None = None

    @property
    def measured(self) -> list[Row]:
        """The rows that can be compared: with a value, and with all that is varied."""
        return [
            row
            for row in self.rows
            if row.value is not None and all(name in row.parameters for name in self.varied)
        ]


def of_folders(
    folders: Sequence[Path], metric: str | None = None, *, maximize: bool = True
) -> Results:
    """The results in a sweep's folder, or in folders of runs or those that hold them.

    `metric`: that of the sweep, or `held_out/reward`, without. Raises `InputError` for a folder
    without runs.
    """
    record = read_record(folders[0]) if len(folders) == 1 else None
    if record is not None:
        about = record.settings["metric"]
        if metric is None:
            metric, maximize = about["name"], about.get("goal") == "maximize"
        rows = [
            _of_record(folders[0], record, number, metric, maximize)
            for number in range(len(record.runs))
        ]
        name = record.name
    else:
        metric = metric or DEFAULT_METRIC
        runs = _run_folders(folders)
        name = folders[0].resolve().name if len(folders) == 1 else f"{len(runs)} runs"
        rows = [_of_folder(run, label, metric, maximize) for run, label in runs.items()]
    return arranged(
        Results(
            name=name,
            metric=metric,
            maximize=maximize,
            rows=rows,
            commit=None if record is None else record.commit,
        )
    )


def _of_record(folder: Path, record: SweepRecord, number: int, metric: str, maximize: bool) -> Row:
    run = record.runs[number]
    history = metric_history(folder / run.id, metric)
    return Row(
        id=run.id,
        state=run.state,
        parameters=flat(run.parameters),
        value=history[-1] if history else None,
        best=_best(history, maximize),
        seconds=run.seconds,
    )


def _of_folder(folder: Path, label: str, metric: str, maximize: bool) -> Row:
    history = metric_history(folder, metric)
    seconds = metric_history(folder, "seconds")
    try:
        state = str(read_about(folder).get("status", "no run.json"))
        path = folder / _CONFIG
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder} holds a damaged run.json or {_CONFIG}: {error}") from error
    kept = {name: value for name, value in flat(settings).items() if name not in HOUSEKEEPING}
    return Row(
        id=label,
        state=state,
        parameters=kept,
        value=history[-1] if history else None,
        best=_best(history, maximize),
        seconds=seconds[-1] if seconds else None,
    )


def _run_folders(folders: Sequence[Path]) -> dict[Path, str]:
    """The folders of runs, each once, with what they are called; also of those that ended before
    they told anything, beside which nothing but their settings stands.
    """
    found = find_runs(folders, signs=(METRICS, _CONFIG), depth=1).runs
    whole = [path.resolve() for path in found]
    count = Counter(path.name for path in whole)
    return {
        path: path.name if count[path.name] == 1 else str(given)
        for path, given in zip(whole, found, strict=True)
    }


def _best(history: Sequence[float], maximize: bool) -> float | None:
    if not history:
        return None
    return max(history) if maximize else min(history)


def arranged(results: Results) -> Results:
    """The same with the rows in their order, and with what is varied."""
    sign = -1 if results.maximize else 1
    rows = sorted(
        results.rows,
        key=lambda row: (row.value is None, 0 if row.value is None else sign * row.value, row.id),
    )
    counted = [row for row in rows if row.value is not None and row.parameters] or rows
    names = dict.fromkeys(name for row in counted for name in row.parameters)
    levels = {name: tuple(_as_key(row.parameters.get(name)) for row in counted) for name in names}
    varied: list[str] = []
    joined: dict[str, list[str]] = {}
    for name in names:
        if len(set(levels[name])) < 2:
            continue
        first = next((other for other in varied if _follows(levels[other], levels[name])), None)
        if first is None:
            varied.append(name)
        else:
            joined.setdefault(first, []).append(name)
    return replace(results, rows=rows, varied=varied, joined=joined)


def _follows(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two parameters always change together, and not because every run has new numbers."""
    values = len(set(one))
    if len(set(other)) != values or len(set(zip(one, other, strict=True))) != values:
        return False
    return values < len(one) or not all(map(_is_number, (*one, *other)))


def _as_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _is_number(key: str) -> bool:
    return isinstance(json.loads(key), int | float)
