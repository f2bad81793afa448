"""From rows of metrics to means with bootstrap intervals; the unit is the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.context import Context
from experiments.evaluation.work import Cell, Key
from refine_env.datasets.catalog import DATASETS
from refine_env.metrics import Estimate
from refine_env.types import Question

RESAMPLES = 2000
DIGITS = 10
"""Decimals that are kept: the last bits depend on the order in which a library adds."""
MACRO = "mean of datasets"
"""The group in which every dataset counts alike, as in the averages of published tables."""

Estimates = dict[str, dict[str, Estimate]]
"""Group (`all`, `multi-hop`, a dataset, ...) -> metric -> estimate."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured of each question: the mean over the seeds."""

    questions: Sequence[Question]
    metrics: tuple[str, ...]
    values_QM: NDArray[np.float64]
    """A row for each question, a column for each metric; NaN where it has none."""


def scores_of(
    rows: Mapping[Key, Mapping[str, float]],
    questions: Mapping[str, Sequence[Question]],
    context: Context,
    seeds: Sequence[int],
) -> Scores:
    """The scores of one context; `questions` are those of each environment.

    Raises `KeyError` when a question was not run with every seed.
    """
    asked = [(env, question) for env, some in questions.items() for question in some]
    found = [
        [rows[Key(Cell(env, context, seed), question.id)] for seed in seeds]
        for env, question in asked
    ]
    metrics = tuple(dict.fromkeys(name for row in found for one in row for name in one))
    values = np.array(
        [[_mean([one[name] for one in row if name in one]) for name in metrics] for row in found]
    )
    return Scores([question for _, question in asked], metrics, values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def estimate_groups(scores: Scores) -> Estimates:
    """Estimates of every group that differs from `all`.

    The groups: `all`, `single-hop` and `multi-hop`, and of several datasets each one and their
    mean. Hop counts follow where questions have several counts above one.
    """
    estimates = {
        name: estimate(scores, [places]) for name, places in group_places(scores.questions).items()
    }
    datasets: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(scores.questions):
        datasets[question.dataset].append(place)
    if len(datasets) > 1:
        estimates[MACRO] = estimate(scores, list(datasets.values()))
    return estimates


def group_places(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Group -> places of its questions; left out are a group that holds all beside `all`, and the
    only hop count beside `multi-hop`.
    """
    groups = places_of_groups([q.dataset for q in questions], [q.hops for q in questions])
    counts = {_hop_group(q.hops) for q in questions if q.hops is not None and q.hops > 1}
    left_out = counts if len(counts) == 1 else set()
    return {
        name: places
        for name, places in groups.items()
        if name == "all" or (name not in left_out and 0 < len(places) < len(questions))
    }


def places_of_groups(datasets: Sequence[str], hops: Sequence[int | None]) -> dict[str, list[int]]:
    """Group -> places of its questions, by two columns with a value for each question: `all`,
    `single-hop`, `multi-hop`, every dataset, every hop count above one (`2-hop`).

    A question whose hops are not known is in no group of hops, but that those of MuSiQue and 2Wiki
    are multi-hop, as the paper counts them, whatever their files tell.
    """
    known = [count or 0 for count in hops]
    several = {name for name, info in DATASETS.items() if info.multi_hop}
    return {
        "all": list(range(len(hops))),
        "single-hop": _where(known, 1),
        "multi-hop": [
            place
            for place, (dataset, count) in enumerate(zip(datasets, known, strict=True))
            if count > 1 or (not count and dataset in several)
        ],
        **{dataset: _where(datasets, dataset) for dataset in dict.fromkeys(datasets)},
        **{_hop_group(count): _where(known, count) for count in sorted(set(known)) if count > 1},
    }


def _hop_group(count: int) -> str:
    return f"{count}-hop"


def _where(column: Sequence[object], value: object) -> list[int]:
    return [place for place, found in enumerate(column) if found == value]


def estimate(scores: Scores, strata: Sequence[Sequence[int]]) -> dict[str, Estimate]:
    """Metric -> estimate over the questions in `strata`, each of which counts alike.

    One stratum is a plain mean. With several, each is resampled within itself. A metric that a
    stratum does not have at all is left out.
    """
    parts = [scores.values_QM[list(places)] for places in strata]
    counts = np.array([(~np.isnan(part)).sum(axis=0) for part in parts])
    kept = np.flatnonzero(counts.all(axis=0))
    means = np.mean([np.nanmean(part[:, kept], axis=0) for part in parts], axis=0)
    resampled = np.mean([resampled_means(part[:, kept]) for part in parts], axis=0)
    low, high = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    estimates = {}
    for place, metric in enumerate(kept):
        mean, from_, to = (round(float(column[place]), DIGITS) for column in (means, low, high))
        n = int(counts[:, metric].sum())
        estimates[scores.metrics[metric]] = Estimate(mean, from_, to, n)
    return estimates


def resampled_means(
    values_QM: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """The means of bootstrap resamples of the rows, [resamples, M]; all columns share the draws.

    NaN counts as missing; a resample that holds no value of a column gives NaN there.
    """
    questions = len(values_QM)
    present = ~np.isnan(values_QM)
    columns = np.concatenate([np.where(present, values_QM, 0.0), present], axis=1, dtype=float)
    rng = np.random.default_rng(seed)
    at_once = max(1, 2**20 // questions)  # so that the draws fill a few megabytes
    sums = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, questions, (rows, questions)) + questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        sums.append(counts.reshape(rows, questions).astype(float) @ columns)
    totals, weights = np.split(np.concatenate(sums), 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: NDArray[np.float64] = totals / weights
    return means


def difference(one: Scores, other: Scores, pairs: Iterable[tuple[int, int]]) -> Scores:
    """`other` minus `one` for each pair of places, in the metrics that both have."""
    metrics = tuple(name for name in one.metrics if name in other.metrics)
    first, second = zip(*pairs, strict=True)
    left = one.values_QM[list(first)][:, [one.metrics.index(name) for name in metrics]]
    right = other.values_QM[list(second)][:, [other.metrics.index(name) for name in metrics]]
    return Scores([other.questions[place] for place in second], metrics, right - left)
