"""Run folders with made-up figures, in the form that real runs leave, to try the analysis on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.reproduction.arms import Run
from experiments.reproduction.parts.base import Part
from experiments.reproduction.runs import SETTINGS, Place
from experiments.reproduction.scales import MINI, Scale
from experiments.reproduction.testing import SCORES

QUESTIONS = 90
HOPS = [1, 2, 3] * (QUESTIONS // 3)
METRICS = (
    "reward", "em", "f1", "cover_em", "searches", "search_success", "refine_success",
    "supporting_recall", "refine_grounded", "refine_copied", "compression", "closed", "refine_hit",
    "refine_hit_official", "tokens/read", "tokens/documents", "tokens/refine", "tokens/answer",
)  # fmt: skip

Level = Callable[[str, str, int, str], float]
"""(arm, condition, hops, metric) -> the mean of the metric."""


def make(root: Path, part: Part, seeds: int, level: Level, scale: Scale = MINI) -> Place:
    """All runs of a part, finished and tested, at the levels told."""
    place = Place(scale, root)
    for run, conditions in part.wanted(place.scale, range(seeds)).items():
        folder = place.run(run)
        (folder / "policy").mkdir(parents=True, exist_ok=True)
        settings = {"grpo": {"seed": run.seed}, "env_options": {}, "commit": "abc"}
        (folder / SETTINGS).write_text(json.dumps(settings))
        _write_curves(folder, run, level)
        for condition in conditions:
            tested = place.tested(run, condition)
            tested.mkdir(parents=True, exist_ok=True)
            (tested / SCORES).write_text(json.dumps(_columns(run, condition.name, level)))
    return place


def _columns(run: Run, condition: str, level: Level) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "id": [f"q{number}" for number in range(QUESTIONS)],
        "dataset": ["miniwiki"] * QUESTIONS,
        "hops": list(HOPS),
    }
    for metric in METRICS:
        rng = np.random.default_rng([run.seed, METRICS.index(metric)])  # paired, whatever the arm
        drawn = rng.random(QUESTIONS)
        means = [level(run.arm, condition, hops, metric) for hops in HOPS]
        columns[metric] = [float(d < mean) for d, mean in zip(drawn, means, strict=True)]
    return columns


def _write_curves(folder: Path, run: Run, level: Level) -> None:
    lines = []
    for step in (0, 5, 10):
        row: dict[str, float] = {"step": step, "seconds": float(step)}
        for metric in ("em", "searches", "search_success", "refine_success"):
            row[f"held_out/{metric}"] = level(run.arm, "held-out", 2, metric) * step / 10
            for hops in (1, 2, 3):
                value = level(run.arm, "held-out", hops, metric)
                row[f"held_out/{metric}/{hops}-hop"] = value * step / 10
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
