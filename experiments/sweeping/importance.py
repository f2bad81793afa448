"""How much a metric depends on each parameter: as in W&B's panel, importance and correlation.

Importance is that of a random forest which predicts the metric from the parameters: it counts what
a parameter does in company, has no sign, and sums to 1. Correlation is linear (of the logarithm,
where a parameter is on a logarithmic scale) and has a sign. Of few runs, both are rough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.sweeping.results import Results

_TREES = 200
_FEWEST = 4
"""Runs below which nothing is said."""
_LOG_SPAN = {float: 4.0, int: 99.0}
"""Positive values that span more than this factor lie on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a parameter is measured: on a line, on a logarithmic one, or by its levels."""

    kind: str
    """linear, log or levels."""
    levels: tuple[Any, ...] = ()
    """Of `levels`, in their order."""


@dataclass(frozen=True, slots=True)
class Importance:
    """What a parameter does to the metric."""

    importance: float
    correlation: float
    level: str = ""
    """Of levels: the one whose presence correlates most, which `correlation` is that of."""


def scale_of(values: Sequence[Any]) -> Scale:
    """The scale on which values lie. Zero cannot be on a logarithmic one: they are levels then."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Scale("levels", tuple(sorted(set(map(label, values)))))
    above = [value for value in values if value > 0]
    span = _LOG_SPAN[float if any(isinstance(value, float) for value in values) else int]
    wide = bool(above) and max(above) / min(above) > span
    if wide and len(above) == len(values):
        return Scale("log")
    if wide and min(values) >= 0:
        return Scale("levels", tuple(label(value) for value in sorted(set(values))))
    return Scale("linear")


def importances(results: Results) -> dict[str, Importance]:
    """Varied parameter -> importance, the greatest first; empty for too few runs or one value."""
    rows = results.measured
    target = np.array([row.value for row in rows], dtype=float)
    if len(rows) < _FEWEST or np.ptp(target) == 0 or not results.varied:
        return {}
    columns: list[np.ndarray] = []
    owners: list[tuple[str, str]] = []
    for name in results.varied:
        for level, column in _columns([row.parameters[name] for row in rows]).items():
            columns.append(column)
            owners.append((name, level))
    shares = _forest_shares(np.stack(columns, axis=1), target)
    correlations = [_correlation(column, target) for column in columns]
    found = {}
    for name in results.varied:
        own = [index for index, (owner, _) in enumerate(owners) if owner == name]
        strongest = max(own, key=lambda index: abs(correlations[index]))
        found[name] = Importance(
            importance=float(sum(shares[index] for index in own)),
            correlation=correlations[strongest],
            level=owners[strongest][1],
        )
    return dict(sorted(found.items(), key=lambda pair: -pair[1].importance))


def _columns(values: Sequence[Any]) -> Mapping[str, np.ndarray]:
    """Numbers as they are, or as logarithms; a column of 0 and 1 for each level."""
    scale = scale_of(values)
    if scale.kind == "levels":
        names = [label(value) for value in values]
        return {
            str(level): np.array([float(name == level) for name in names]) for level in scale.levels
        }
    change = math.log if scale.kind == "log" else float
    return {"": np.array([change(value) for value in values])}


def _forest_shares(inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=_TREES, random_state=0, n_jobs=1)
    shares: np.ndarray = forest.fit(inputs, target).feature_importances_
    return shares


def _correlation(column: np.ndarray, target: np.ndarray) -> float:
    if np.ptp(column) == 0:
        return 0.0
    return float(np.corrcoef(column, target)[0, 1])


def label(value: Any) -> str:
    """A value as a level's name."""
    return f"{value:g}" if isinstance(value, float) else str(value)
