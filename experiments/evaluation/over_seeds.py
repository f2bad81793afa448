"""Means over seeds with Student's t intervals, and how a mean with its interval is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A mean over `n` seeds with its 95 % interval by Student's t; None where there is none."""

    mean: float
    low: float | None
    high: float | None
    n: int


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """The mean and its interval; none with fewer than two values. Raises `ValueError` without."""
    if not values:
        raise ValueError("there are no values")
    data, n = np.asarray(values, dtype=float), len(values)
    mean = float(data.mean())
    if n < 2:
        return OverSeeds(mean, None, None, n)
    half = t_quantile(n - 1) * float(data.std(ddof=1)) / math.sqrt(n)
    return OverSeeds(mean, mean - half, mean + half, n)


def with_interval(
    mean: float, low: float | None, high: float | None, *, sign: str = "", digits: int = 3
) -> str:
    """`mean [low, high]`, or the mean alone where there is no interval; with `sign="+"` each has
    its sign.
    """
    form = f"{sign}.{digits}f"
    if low is None or high is None:
        return f"{mean:{form}}"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def t_quantile(freedom: int, level: float = 0.95) -> float:
    """The value that Student's t with so many degrees of freedom keeps within, up and down, with
    probability `level`: 12.706 for 1, 2.776 for 4.
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|t| <= sqrt(freedom) * tan(angle)), the closed form for whole degrees of freedom
    (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power - 1) / power
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
