"""What a local sweep knows of its runs: `sweep.json`, and the metrics of the runs' folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.tracking import METRICS, read_metrics
from experiments.inputs import InputError
from refine_env.files import write_whole

RUNNING: Literal["running"] = "running"
FINISHED: Literal["finished"] = "finished"
FAILED: Literal["failed"] = "failed"
STOPPED: Literal["stopped"] = "stopped"
SWEEP = "sweep.json"
CONSOLE = "console.log"
"""What a run wrote to the terminal, in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run of a sweep."""

    id: str
    """The name of its folder."""
    parameters: Mapping[str, Any]
    state: str = RUNNING
    """running (or cut off, when nothing runs the sweep), finished, failed, stopped (given up)."""
    exit_code: int | None = None
    seconds: float = 0.0
    """Wall time, all its starts together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord:
    """A local sweep; what it depends on stays the same when it goes on."""

    name: str
    settings: Mapping[str, Any]
    """Of the file."""
    overrides: Sequence[str] = ()
    seed: int = 0
    commit: str | None = None
    runs: Sequence[RunRecord] = field(default_factory=tuple)


def write_record(folder: Path, record: SweepRecord) -> None:
    """Write `sweep.json`."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, default=str) + "\n"
    write_whole(folder / SWEEP, text)


def read_record(folder: Path) -> SweepRecord | None:
    """What `sweep.json` says; None where there is none. Raises `InputError` for a damaged one."""
    path = folder / SWEEP
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        runs = tuple(RunRecord(**run) for run in told.pop("runs"))
        return SweepRecord(**{**told, "overrides": tuple(told["overrides"])}, runs=runs)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}): name another folder by --output, or remove it"
        ) from error


def metric_history(folder: Path, metric: str) -> list[float]:
    """The values of a metric over a run, in their order; empty where it has told none."""
    if not (folder / METRICS).is_file():
        return []
    return [float(row[metric]) for row in read_metrics(folder) if metric in row]
