"""Figures of groups over their seeds, and differences of groups paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from experiments.evaluation.over_seeds import OverSeeds, over_seeds
from experiments.evaluation.paired import sign_flip_p
from experiments.run_report.groups import Group
from experiments.run_report.runs import HELD_OUT, TrainingRun

BEST = "best held-out reward"
FIGURES = {
    HELD_OUT: "held-out reward",
    BEST: BEST,
    "held_out/em": "EM",
    "held_out/f1": "F1",
    "held_out/searches": "searches",
    "held_out/search_success": "search success",
    "held_out/refine_success": "refine success",
}
"""What groups are told of -> its name in tables. All but the best are of the last evaluation."""
COMPARED = (HELD_OUT, "held_out/em", "held_out/f1")


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """The second group minus the first, in one figure."""

    first: str
    second: str
    figure: str
    seeds: tuple[int, ...]
    """Those of both groups. Without any, the groups' means are compared, and no more is known."""
    value: OverSeeds
    p: float | None
    """Two-sided, by flipping signs; None with fewer than two seeds."""


def figure_of(run: TrainingRun, figure: str) -> float | None:
    """A figure of a run; None where it has not told it."""
    if figure == BEST:
        return run.best_reward
    return None if run.held_out is None else run.held_out.get(figure)


def by_seed(group: Group, figure: str) -> dict[object, float]:
    """Seed -> value, the mean of the runs of that seed. A run whose seed is not known counts as a
    seed of its own, which no other run shares.
    """
    found: dict[object, list[float]] = {}
    for run in group.runs:
        value = figure_of(run, figure)
        if value is not None:
            found.setdefault(run.name if run.seed is None else run.seed, []).append(value)
    return {seed: sum(values) / len(values) for seed, values in found.items()}


def estimates(group: Group) -> dict[str, OverSeeds]:
    """Figure -> mean over the seeds, of the figures that its runs have."""
    values = {figure: list(by_seed(group, figure).values()) for figure in FIGURES}
    return {figure: over_seeds(some) for figure, some in values.items() if some}


def differences(groups: Sequence[Group]) -> list[GroupDifference]:
    """Every two groups in every compared figure that both have."""
    found = []
    for first, second in combinations(groups, 2):
        for figure in COMPARED:
            one, other = by_seed(first, figure), by_seed(second, figure)
            if one and other:
                found.append(_difference(first.name, second.name, figure, one, other))
    return found


def _difference(
    first: str,
    second: str,
    figure: str,
    one: Mapping[object, float],
    other: Mapping[object, float],
) -> GroupDifference:
    seeds = tuple(sorted(s for s in one if s in other and isinstance(s, int)))
    if not seeds:
        apart = float(np.mean(list(other.values())) - np.mean(list(one.values())))
        return GroupDifference(first, second, figure, (), OverSeeds(apart, None, None, 0), None)
    gains = [other[seed] - one[seed] for seed in seeds]
    p = sign_flip_p(np.array(gains)) if len(seeds) > 1 else None
    return GroupDifference(first, second, figure, seeds, over_seeds(gains), p)
