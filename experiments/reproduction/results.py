"""What the runs have measured, as arrays and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.tracking import read_metrics
from experiments.evaluation.estimates import places_of_groups
from experiments.inputs import InputError
from experiments.reproduction.arms import ARMS, AS_TRAINED, BEFORE, Condition, Run
from experiments.reproduction.runs import SETTINGS, Place
from experiments.reproduction.statistics import (
    Difference,
    Mean,
    Scores,
    difference_of,
    difference_of_gains,
    mean_of,
)
from experiments.reproduction.testing import SCORES


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of training over optimiser steps, over the seeds of an arm."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    """Least of the seeds."""
    high: tuple[float, ...]
    """Largest of the seeds."""
    seeds: int


@dataclass(frozen=True, slots=True)
class Results:
    """The finished runs of a scale."""

    place: Place
    seeds: tuple[int, ...]

    def has(self, arm: str) -> bool:
        """Whether there is such an arm at this scale."""
        return self.place.scale.has(ARMS[arm])

    def columns(self, run: Run, condition: Condition) -> Mapping[str, list[Any]]:
        """Name -> a value for each question of a test."""
        path = self.place.tested(run, condition) / SCORES
        if not path.is_file():
            raise InputError(f"{run} has not been tested ({condition.name}): {path} is missing")
        return _read_columns(path, path.stat().st_mtime_ns)

    def scores(
        self, arm: str, metric: str, group: str = "all", condition: Condition = AS_TRAINED
    ) -> Scores:
        """The values of a metric on the questions of a group. [S, Q]

        Raises `InputError` where runs are missing or were tested on other questions.
        """
        rows, asked = [], None
        for seed in self.seeds:
            columns = self.columns(Run(arm, seed), condition)
            ids = list(zip(columns["dataset"], columns["id"], strict=True))
            if asked is not None and ids != asked:
                raise InputError(f"the seeds of {arm} were tested on different questions")
            asked = ids
            values = columns.get(metric, [None] * len(ids))
            rows.append([np.nan if value is None else float(value) for value in values])
        places = places_of_groups(columns["dataset"], columns["hops"])[group]
        return np.array(rows)[:, places]

    def mean(
        self, arm: str, metric: str, group: str = "all", condition: Condition = AS_TRAINED
    ) -> Mean:
        """The mean of a metric over seeds and the questions of a group."""
        return mean_of(self.scores(arm, metric, group, condition))

    def difference(
        self,
        first: str,
        second: str,
        metric: str,
        group: str = "all",
        condition: Condition = AS_TRAINED,
        second_condition: Condition | None = None,
    ) -> Difference:
        """First minus second, paired by seed and question."""
        return difference_of(
            self.scores(first, metric, group, condition),
            self.scores(second, metric, group, second_condition or condition),
        )

    def gain(self, arm: str, metric: str, group: str = "all") -> Difference:
        """What training added."""
        return self.difference(arm, arm, metric, group, AS_TRAINED, BEFORE)

    def more_gained(self, first: str, second: str, metric: str, group: str = "all") -> Difference:
        """How much more training added to the first arm than to the second."""
        gains = [
            tuple(self.scores(arm, metric, group, when) for when in (AS_TRAINED, BEFORE))
            for arm in (first, second)
        ]
        return difference_of_gains(
            (gains[0][0], gains[0][1]), (gains[1][0], gains[1][1]), paired=True
        )

    def groups(self, arm: str) -> list[str]:
        """`all`, single-hop and multi-hop, then each hop count or dataset."""
        columns = self.columns(Run(arm, self.seeds[0]), AS_TRAINED)
        groups = places_of_groups(columns["dataset"], columns["hops"])
        datasets = list(dict.fromkeys(columns["dataset"]))
        kinds = ["all", "single-hop", "multi-hop"]
        if len(datasets) > 1:
            return [*kinds, *datasets]
        return [*kinds, *(name for name in groups if name not in (*kinds, *datasets))]

    def curve(self, arm: str, figure: str) -> Curve | None:
        """A figure of `metrics.jsonl`; None where no run tells it."""
        by_seed = [
            {int(row["step"]): row[figure] for row in self._metrics(arm, seed) if figure in row}
            for seed in self.seeds
        ]
        steps = sorted(set.intersection(*(set(points) for points in by_seed)))
        if not steps:
            return None
        values_ST = np.array([[points[step] for step in steps] for points in by_seed])
        return Curve(
            steps=tuple(steps),
            mean=tuple(values_ST.mean(axis=0).tolist()),
            low=tuple(values_ST.min(axis=0).tolist()),
            high=tuple(values_ST.max(axis=0).tolist()),
            seeds=len(by_seed),
        )

    def _metrics(self, arm: str, seed: int) -> list[dict[str, float]]:
        return read_metrics(self.place.run(Run(arm, seed)))

    def commits(self, arms: Sequence[str]) -> list[str]:
        """The commits that the runs were begun at."""
        found = dict.fromkeys(
            _settings(self.place, Run(arm, seed)).get("commit")
            for arm in arms
            for seed in self.seeds
        )
        return [commit or "unknown" for commit in found]

    def settings(self, arm: str) -> Mapping[str, Any]:
        """What an arm was trained with, by its first seed."""
        settings = dict(_settings(self.place, Run(arm, self.seeds[0])))
        for name in ("output", "commit", "policy", "resume"):
            settings.pop(name, None)
        return settings


def _settings(place: Place, run: Run) -> Mapping[str, Any]:
    path = place.run(run) / SETTINGS
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@lru_cache(maxsize=1024)
def _read_columns(path: Path, written: int) -> Mapping[str, list[Any]]:
    columns: Mapping[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
    return columns
