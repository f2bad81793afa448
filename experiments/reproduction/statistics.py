"""From scores of seeds and questions to estimates and paired differences.

Every seed of an arm is tested on the same questions, and the same seeds (warm start, order of
questions, random numbers of the rollouts) are there in every arm, so that arms are compared seed by
seed and question by question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.paired import sign_flip_p

Scores = NDArray[np.float64]
"""[S, Q]: a row for each seed, a column for each question; NaN where there is no value."""


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over seeds, each of which is a mean over questions."""

    mean: float
    low: float
    high: float
    """Student's t interval of 95 % over the seeds; NaN for a single one."""
    seeds: int
    questions: int
    values: tuple[float, ...]
    """Of each seed."""

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {(self.high - self.low) / 2:.3f}"


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean of an arm minus that of another, seed by seed."""

    mean: float
    low: float
    high: float
    """Student's t interval of 95 % over the seeds; NaN for a single one."""
    p_seeds: float
    """Sign flips of the seeds' differences, all patterns; with n seeds at least 2 / 2^n."""
    p_questions: float
    """Sign flips of the questions' differences, which are means over the seeds."""
    seeds: int
    questions: int

    @property
    def direction(self) -> int:
        """1 or -1 where the interval over seeds leaves 0 out, else 0."""
        if math.isnan(self.low):
            return 0
        return int(self.low > 0) - int(self.high < 0)


def seed_mean(scores_SQ: Scores) -> SeedMean:
    """Raises `ValueError` without a seed or a question."""
    values = _by_seed(scores_SQ)
    low, high = _t_interval(values)
    return SeedMean(
        float(values.mean()),
        low,
        high,
        len(values),
        scores_SQ.shape[1],
        tuple(float(value) for value in values),
    )


def paired_difference(first_SQ: Scores, second_SQ: Scores) -> PairedDifference:
    """First minus second. Raises `ValueError` where they differ in seeds or questions."""
    if first_SQ.shape != second_SQ.shape:
        raise ValueError(f"scores of {first_SQ.shape} and {second_SQ.shape} cannot be paired")
    differences_SQ = first_SQ - second_SQ
    by_seed = _by_seed(first_SQ) - _by_seed(second_SQ)
    by_question = np.nan_to_num(_nan_mean(differences_SQ, axis=0))
    low, high = _t_interval(by_seed)
    return PairedDifference(
        float(by_seed.mean()),
        low,
        high,
        sign_flip_p(by_seed),
        sign_flip_p(by_question),
        len(by_seed),
        differences_SQ.shape[1],
    )


def _by_seed(scores_SQ: Scores) -> NDArray[np.float64]:
    if not scores_SQ.size:
        raise ValueError("there are no scores")
    return _nan_mean(scores_SQ, axis=1)


def _nan_mean(values: Scores, axis: int) -> NDArray[np.float64]:
    """The mean of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    counts = there.sum(axis)
    sums = np.where(there, values, 0.0).sum(axis)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _t_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return math.nan, math.nan
    half = float(t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return float(values.mean()) - half, float(values.mean()) + half
