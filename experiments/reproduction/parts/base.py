"""What a part of the report is: which runs it wants, what it makes of them, how it is drawn."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.curves import curve_with_band
from experiments.reproduction.arms import ARMS, Condition, Run
from experiments.reproduction.results import Curve, Results
from experiments.reproduction.scales import Scale
from experiments.reproduction.statistics import (
    Claim,
    Difference,
    Mean,
    told,
    told_with_p,
    verdict_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | float | int | Mean | Difference


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a section; cells are written when it is shown."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a part found: tables to read, claims to judge, data to draw."""

    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]
    drawn: Mapping[str, Any] = field(default_factory=dict)
    more: str = ""
    """Markdown after the tables."""


@dataclass(frozen=True, slots=True)
class Part:
    """A table or figure of the paper."""

    name: str
    title: str
    about: str
    """One paragraph: what is asked, what is compared."""
    arms: Mapping[str, tuple[Condition, ...]]
    """Arm -> conditions of its tests; as it was trained always comes first."""
    find: Callable[[Results], Findings]
    draw: Callable[[Findings, Figure], None]
    size: tuple[float, float] = (9.0, 4.2)
    """Of the picture, inches."""

    def wanted(self, scale: Scale, seeds: Sequence[int]) -> dict[Run, tuple[Condition, ...]]:
        """Its runs, seed by seed, so that an interrupted part has whole seeds."""
        arms = [arm for arm in self.arms if scale.has(ARMS[arm])]
        return {Run(arm, seed): self.arms[arm] for seed in seeds for arm in arms}


@cache
def paper() -> Mapping[str, Any]:
    """The paper's figures, from `paper.toml`."""
    path = Path(__file__).parents[1] / "paper.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def title(arm: str) -> str:
    """What an arm is called in tables and pictures."""
    return ARMS[arm].title


def cell(value: Cell) -> str:
    """A cell as Markdown."""
    if isinstance(value, Difference):
        return told_with_p(value)
    if isinstance(value, Mean):
        return told(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def difference_claim(
    text: str, source: str, paper_says: str, difference: Difference, expected: int = 1
) -> Claim:
    """A claim that a difference decides."""
    verdict = verdict_of(difference, 1 if expected > 0 else -1)
    return Claim(text, source, paper_says, told_with_p(difference), verdict)


COLOURS = {
    "autorefine": "#1b6ca8",
    "search_r1": "#d1495b",
    "research": "#edae49",
    "single": "#7d8597",
    "direct": "#b8bfc9",
    "f1": "#00798c",
    "no_refine": "#8e5572",
    "thoughts": "#6a994e",
}
"""Arm -> colour, the same in every picture."""
GROUP_COLOURS = {
    "1-hop": "#1b6ca8", "2-hop": "#edae49", "3-hop": "#d1495b",
    "single-hop": "#1b6ca8", "multi-hop": "#d1495b", "all": "#333333",
}  # fmt: skip


def bars(
    axes: Any, groups: Sequence[str], series: Sequence[tuple[str, str, Sequence[Mean]]]
) -> None:
    """Groups of bars: (label, colour, mean of each group), with intervals and the seeds' dots."""
    width = 0.8 / len(series)
    for number, (label, colour, means) in enumerate(series):
        places = [group + (number - (len(series) - 1) / 2) * width for group in range(len(groups))]
        heights = [value.mean for value in means]
        axes.bar(places, heights, width * 0.92, label=label, color=colour, zorder=2)
        for place, value in zip(places, means, strict=True):
            if value.low is not None and value.high is not None:
                axes.plot([place, place], [value.low, value.high], color="black", lw=1, zorder=3)
            axes.plot(
                [place] * len(value.by_seed), value.by_seed, ".", color="black", ms=3, zorder=4
            )
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(axis="y", alpha=0.3, zorder=0)


def line(axes: Any, curve: Curve | None, label: str, colour: str, style: str = "-") -> None:
    """A curve with the range of its seeds; nothing where there is none."""
    if curve is None:
        return
    look = {"linestyle": style, "color": colour, "label": label, "linewidth": 1.6}
    curve_with_band(axes, curve.steps, curve.mean, curve.low, curve.high, **look)


def points(
    axes: Any,
    places: Sequence[float],
    means: Sequence[Mean],
    label: str,
    colour: str,
    style: str = "o-",
) -> None:
    """Means with intervals, joined by a line."""
    heights = [value.mean for value in means]
    axes.plot(places, heights, style, color=colour, label=label, ms=4, lw=1.4)
    for place, value in zip(places, means, strict=True):
        if value.low is not None and value.high is not None:
            axes.plot([place, place], [value.low, value.high], color=colour, lw=1)
