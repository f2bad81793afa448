"""From scores of seeds and questions to estimates and paired differences.

Every seed of an arm is tested on the same questions, and the same seeds (warm start, order of
questions, random numbers of the rollouts) are there in every arm, so that arms are compared seed by
seed and question by question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.over_seeds import over_seeds, with_interval
from experiments.evaluation.paired import sign_flip_p

Scores = NDArray[np.float64]
"""[S, Q]: a row for each seed, a column for each question; NaN where there is no value."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds, each of which is a mean over questions."""

    mean: float
    low: float | None
    high: float | None
    """95 % interval over the seeds (Student's t); None for a single one."""
    seeds: int
    questions: int
    by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm minus another, seed by seed."""

    mean: float
    low: float | None
    high: float | None
    """95 % interval over the seeds' differences (Student's t); None for a single one."""
    p_seeds: float
    """Two-sided, by flipping the signs of the seeds' differences: at least 2 / 2^seeds."""
    p_questions: float | None
    """Two-sided, by flipping the signs of the questions' differences, means over the seeds; None
    where the two are not of the same questions."""
    seeds: int
    questions: int

    @property
    def direction(self) -> Literal[-1, 0, 1]:
        """1 or -1 where the interval over seeds leaves 0 out, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def mean_of(scores_SQ: Scores) -> Mean:
    """Raises `ValueError` without a score."""
    values = _by_seed(scores_SQ)
    told = over_seeds(values.tolist())
    return Mean(
        told.mean, told.low, told.high, told.n, scores_SQ.shape[1], tuple(map(float, values))
    )


def difference_of(first_SQ: Scores, second_SQ: Scores) -> Difference:
    """First minus second. Raises `ValueError` where they differ in seeds or questions."""
    if first_SQ.shape != second_SQ.shape:
        raise ValueError(f"scores of {first_SQ.shape} and {second_SQ.shape} cannot be paired")
    by_seed = _by_seed(first_SQ) - _by_seed(second_SQ)
    by_question = nan_mean(first_SQ - second_SQ, axis=0)
    told = over_seeds(by_seed.tolist())
    return Difference(
        told.mean,
        told.low,
        told.high,
        sign_flip_p(by_seed),
        sign_flip_p(by_question[~np.isnan(by_question)]),
        told.n,
        first_SQ.shape[1],
    )


def difference_of_gains(
    gains_SQ: tuple[Scores, Scores], others_SQ: tuple[Scores, Scores], *, paired: bool = False
) -> Difference:
    """How much larger a gain (first minus second) is than another, seed by seed; `paired`: of the
    same questions.
    """
    if paired:
        return difference_of(gains_SQ[0] - gains_SQ[1], others_SQ[0] - others_SQ[1])
    here, there = (_by_seed(first) - _by_seed(second) for first, second in (gains_SQ, others_SQ))
    told = over_seeds((here - there).tolist())
    questions = gains_SQ[0].shape[1] + others_SQ[0].shape[1]
    return Difference(
        told.mean, told.low, told.high, sign_flip_p(here - there), None, told.n, questions
    )


def nan_mean(values: Scores, axis: int) -> NDArray[np.float64]:
    """The mean of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    counts = there.sum(axis)
    sums = np.where(there, values, 0.0).sum(axis)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _by_seed(scores_SQ: Scores) -> NDArray[np.float64]:
    values = nan_mean(scores_SQ, axis=1)
    if not values.size or np.isnan(values).any():
        raise ValueError("there are seeds without a score")
    return values


Verdict = Literal["shown", "not shown", "opposite"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper says, what it says it with, what was found here."""

    text: str
    source: str
    """Where the paper says so."""
    paper: str
    """Its figures."""
    ours: str
    verdict: Verdict


def verdict_of(difference: Difference, expected: Literal[-1, 1] = 1) -> Verdict:
    """`shown` where the interval over seeds leaves 0 out on the side of the claim, and questions
    and seeds agree; `opposite` on the other side.
    """
    by_question = difference.p_questions
    if difference.direction == 0 or (by_question is not None and by_question >= 0.05):
        return "not shown"
    return "shown" if difference.direction == expected else "opposite"


def no_worse_verdict(difference: Difference, margin: float) -> Verdict:
    """`shown` where the whole interval over seeds lies above -margin, `opposite` where it lies
    below: a test of non-inferiority.
    """
    if difference.low is None or difference.high is None:
        return "not shown"
    if difference.low > -margin:
        return "shown"
    return "opposite" if difference.high < -margin else "not shown"


def told(value: Mean | Difference, digits: int = 3) -> str:
    """The value with its interval, in short."""
    sign = "+" if isinstance(value, Difference) else ""
    return with_interval(value.mean, value.low, value.high, sign=sign, digits=digits)


def told_with_p(value: Difference) -> str:
    """The difference with its interval and its p-values: of the seeds, and of the questions."""
    known = [p for p in (value.p_seeds, value.p_questions) if p is not None]
    return f"{told(value)}; p {', '.join(map(_p, known))}"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0001 else "< 0.0001"


def plain(value: Any) -> Any:
    """Numbers, means and differences as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6)
    return value
