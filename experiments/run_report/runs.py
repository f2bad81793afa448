"""A training run as its folder tells of it, whatever of it is there."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from agents.best_policy import Best, read_best
from agents.tracking import METRICS, read_about, read_metrics

FACTS = ("dataset", "protocol", "reward", "commit")
HELD_OUT = "held_out/reward"
_TRAINING = "reward/total"
_LISTED = 6
_TRANSCRIPT = re.compile(r"step-(\d+)\.jsonl")

Row = Mapping[str, float]
"""A line of metrics: `step` and what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What is known of a run."""

    folder: Path
    name: str
    """By which the report calls it; no two runs of a report have the same."""
    facts: Mapping[str, str]
    """What `run.json` says of the `FACTS`; without those that it does not say."""
    status: str
    """`finished`, `failed`, `unfinished` (it is running, or was killed) or `unknown`."""
    settings: Mapping[str, Any] | None
    """Of `config.yaml`; None where it cannot be read."""
    rows: Sequence[Row]
    best: Best | None
    """Of the policy in `best/`."""
    notes: tuple[str, ...]
    """What a reader must know: what is damaged or missing."""

    @property
    def steps(self) -> int:
        """Optimiser steps that it has told of."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @property
    def planned(self) -> int | None:
        """Optimiser steps that its settings ask for."""
        steps = (self.settings or {}).get("grpo", {}).get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def seed(self) -> int | None:
        seed = (self.settings or {}).get("grpo", {}).get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def seconds(self) -> float | None:
        """Wall time of training."""
        return max((row["seconds"] for row in self.rows if "seconds" in row), default=None)

    @property
    def held_out(self) -> Row | None:
        """The last held-out evaluation."""
        return next((row for row in reversed(self.rows) if HELD_OUT in row), None)

    @property
    def best_reward(self) -> float | None:
        """Of the policy in `best/`, else of the best evaluation."""
        if self.best is not None:
            return self.best.score
        return max((row[HELD_OUT] for row in self.rows if HELD_OUT in row), default=None)

    def points(self, metric: str) -> list[tuple[float, float]]:
        """(step, value) of a metric."""
        return [(row["step"], row[metric]) for row in self.rows if metric in row]

    def last_transcripts(self) -> Path | None:
        """The file of the last step's episodes."""
        found = {
            int(match[1]): path
            for path in (self.folder / "transcripts").glob("step-*.jsonl")
            if (match := _TRANSCRIPT.fullmatch(path.name))
        }
        return found[max(found)] if found else None


def read_run(folder: Path) -> TrainingRun:
    """Read a run; what cannot be read is a note and no error."""
    notes: list[str] = []
    about = _about(folder, notes)
    settings = _settings(folder, notes)
    rows = _rows(folder, notes)
    told = about.get("status")
    status = {"running": "unfinished", "finished": "finished", "failed": "failed"}.get(
        str(told), "unknown"
    )
    run = TrainingRun(
        folder=folder,
        name=str(about.get("name") or folder.resolve().name),
        facts={key: str(about[key]) for key in FACTS if about.get(key) is not None},
        status=status,
        settings=settings,
        rows=rows,
        best=_best(folder, notes),
        notes=(),
    )
    return replace(run, notes=(*_progress(run), *notes))


def named_apart(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """The runs with names that differ: those of one name are called by their folders."""
    count = Counter(run.name for run in runs)
    return [run if count[run.name] == 1 else replace(run, name=str(run.folder)) for run in runs]


def _about(folder: Path, notes: list[str]) -> dict[str, Any]:
    try:
        about = read_about(folder)
    except (OSError, ValueError) as error:
        notes.append(f"run.json is damaged ({error})")
        return {}
    if not isinstance(about, dict):
        notes.append("run.json is damaged (it holds no facts by name)")
        return {}
    if not about:
        notes.append("run.json is missing: its dataset, protocol, reward and status are not known")
    return about


def _settings(folder: Path, notes: list[str]) -> dict[str, Any] | None:
    path = folder / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append("config.yaml is missing: its settings and seed are not known")
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        notes.append(f"config.yaml is damaged ({' '.join(str(error).split())})")
        return None
    if not isinstance(settings, dict):
        notes.append("config.yaml is damaged (it holds no settings)")
        return None
    if not isinstance(settings.get("grpo", {}), dict):
        notes.append("config.yaml is not that of a GRPO run (its grpo holds no settings)")
        return {**settings, "grpo": {}}
    return settings


def _rows(folder: Path, notes: list[str]) -> list[Row]:
    try:
        lines = (folder / METRICS).read_bytes().split(b"\n")
        rows: list[Row] = [_numbers(row) for row in read_metrics(folder)]
    except FileNotFoundError:
        notes.append(f"{METRICS} is missing: it has told no figures")
        return []
    except OSError as error:
        notes.append(f"{METRICS} cannot be read ({error.strerror})")
        return []
    kept = [row for row in rows if "step" in row]
    damaged = len(lines) - 1 - len(kept)
    if damaged:
        notes.append(f"{METRICS}: {damaged} of {len(lines) - 1} lines are damaged and left out")
    if lines[-1]:
        notes.append(f"{METRICS}: the last line is cut short and left out")
    return kept


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _best(folder: Path, notes: list[str]) -> Best | None:
    try:
        best = read_best(folder / "best")
        if best is not None:
            numbers = (best.step, best.score, best.low, best.high, best.n)
            if not all(map(math.isfinite, numbers)):
                raise ValueError("its score is not finite")
        return best
    except TypeError:
        notes.append("best/best.json is damaged (it holds other fields)")
    except (OSError, ValueError) as error:
        notes.append(f"best/best.json is damaged ({error})")
    return None


def _progress(run: TrainingRun) -> list[str]:
    """Notes on how far it came and what it measured."""
    notes = []
    of = f" of {run.planned}" if run.planned is not None else ""
    if run.status == "unfinished":
        notes.append(f"unfinished: it is still running, or was killed, at step {run.steps}{of}")
    elif run.status == "failed":
        notes.append(f"failed at step {run.steps}{of}")
    elif run.status == "finished" and run.planned is not None and run.steps < run.planned:
        notes.append(f"finished before its time, at step {run.steps}{of}")
    names = {name for row in run.rows for name in row} - {"step", "seconds"}
    if run.rows and HELD_OUT not in names:
        if _TRAINING in names:
            notes.append("no held-out evaluation yet: it takes no part in groups and differences")
        else:
            shown = ", ".join(sorted(names)[:_LISTED]) or "nothing but steps"
            notes.append(f"of other metrics: it has no {HELD_OUT} and no {_TRAINING}, but {shown}")
    return notes
