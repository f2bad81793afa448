"""The picture of a sweep: parallel coordinates, and beside them importance and correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.settings_text import last_parts
from experiments.sweeping.importance import Importance, Scale, label, scale_of
from experiments.sweeping.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "viridis"
_LISTED = 8
"""Values up to which all of them are ticks."""
_BAR = 0.5
_LABEL = 22
"""Characters of a level's name that are shown."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An upright axis: where its values and its ticks are, from 0 (below) to 1."""

    title: str
    heights: Sequence[float]
    ticks: Mapping[float, str]


def draw(results: Results, found: Mapping[str, Importance]) -> Figure:
    """Draw the measured runs; what is varied on upright axes, the metric on the last of them."""
    from matplotlib.figure import Figure

    lines = len(results.varied) + 1
    width = 2.0 + 1.7 * lines + 4.6
    figure = Figure(figsize=(max(11.0, width), 4.8), layout="constrained")
    left, middle, right = figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [max(2.2, 0.9 * lines), 1, 1]}
    )
    n, asked = len(results.measured), len(results.rows)
    told = f"n = {n} runs" if n == asked else f"n = {n} of {asked} runs; the others have no value"
    left.set_title(f"{results.name}: {told}", fontsize=11)
    _draw_runs(left, results)
    _draw_importance(middle, right, results, found)
    return figure


def short_names(results: Results) -> dict[str, str]:
    """What parameters are called where there is little room: the end of their names."""
    short = _short(results)
    return {
        name: " + ".join(short[one] for one in (name, *results.joined.get(name, ())))
        for name in results.varied
    }


def _short(results: Results) -> dict[str, str]:
    """The short name of each parameter by itself, those that follow others included."""
    followers = (name for names in results.joined.values() for name in names)
    return last_parts([*results.varied, *followers])


def _draw_runs(axes: Axes, results: Results) -> None:
    from matplotlib import colormaps

    rows, names = results.measured, short_names(results)
    axes.set_axis_off()
    if not rows:
        axes.text(0.5, 0.5, f"no run has told {results.metric}", ha="center", va="center")
        return
    lines = [_line(names[name], [row.parameters[name] for row in rows]) for name in results.varied]
    metric = _line(results.metric, [row.value for row in rows], scale=Scale("linear"))
    colours = colormaps[_COLOURS]
    order = sorted(range(len(rows)), key=lambda row: metric.heights[row])
    for row in order if results.maximize else reversed(order):  # the best on top
        points = [line.heights[row] for line in (*lines, metric)]
        across, up = _curve(points)
        shade = metric.heights[row] if results.maximize else 1 - metric.heights[row]
        axes.plot(across, up, color=colours(0.93 * shade), linewidth=1.8, alpha=0.85)
    for place, line in enumerate((*lines, metric)):
        axes.plot([place, place], [0, 1], color="black", linewidth=1)
        for height, tick in line.ticks.items():
            axes.plot([place - 0.02, place], [height, height], color="black", linewidth=1)
            axes.text(
                *(place - 0.04, height, tick),
                ha="right",
                va="center",
                fontsize=9,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            )
        last = place == len(lines)
        axes.text(
            *(place, 1.06, line.title),
            ha="center",
            va="bottom",
            fontsize=10,
            weight="bold" if last else "normal",
        )
    strip = np.linspace(0, 0.93, 64)[:, None]
    axes.imshow(
        strip if results.maximize else strip[::-1],
        extent=(len(lines) + 0.02, len(lines) + 0.07, 0, 1),
        origin="lower",
        cmap=_COLOURS,
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    axes.set(xlim=(-0.45, len(lines) + 0.3), ylim=(-0.05, 1.16))


def _line(title: str, values: Sequence[Any], scale: Scale | None = None) -> _Line:
    scale = scale or scale_of(values)
    if scale.kind == "levels":
        count = max(len(scale.levels) - 1, 1)
        heights = {str(level): index / count for index, level in enumerate(scale.levels)}
        ticks = {height: _cut(level) for level, height in heights.items()}
        return _Line(title, [heights[label(value)] for value in values], ticks)
    change = math.log if scale.kind == "log" else float
    low, high = change(min(values)), change(max(values))
    span = high - low or 1.0

    def height(value: float) -> float:
        return (change(value) - low) / span if high > low else 0.5

    shown = sorted(set(values))
    if len(shown) > _LISTED or _crowded([height(value) for value in shown]):
        shown = _nice(min(values), max(values), scale.kind)
    note = f"{title}\n(log)" if scale.kind == "log" else title
    return _Line(note, [height(v) for v in values], {height(v): f"{v:.3g}" for v in shown})


def _nice(low: float, high: float, kind: str) -> list[float]:
    """A few round numbers within the values, and the ends where nothing round is near them."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if low == high:
        return [low]
    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if kind == "log" else MaxNLocator(6)
    inside = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return inside or [low, high]


def _crowded(heights: Sequence[float]) -> bool:
    return any(after - before < 0.05 for before, after in pairwise(heights))


def _curve(points: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """A line through the points, level at each axis, so that runs can be told apart there."""
    part = np.linspace(0, 1, 24)
    ease = part * part * (3 - 2 * part)
    across = [place + part for place in range(len(points) - 1)]
    up = [a + (b - a) * ease for a, b in pairwise(points)]
    return np.concatenate([[0.0], *across]), np.concatenate([[points[0]], *up])


def _draw_importance(
    left: Axes, right: Axes, results: Results, found: Mapping[str, Importance]
) -> None:
    names, short = short_names(results), _short(results)
    for axes, title in ((left, "Importance\n(random forest)"), (right, "Correlation")):
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    if not found:
        left.text(0.5, 0.5, "too few runs\nto tell", ha="center", va="center")
        for axes in (left, right):
            axes.set_axis_off()
        return
    places = range(len(found))
    left.barh(places, [about.importance for about in found.values()], height=_BAR, color="tab:blue")
    left.set_yticks(places, [names[name].replace(" + ", "\n+ ") for name in found])
    left.set(xlim=(0, 1))
    values = [about.correlation for about in found.values()]
    colours = ["tab:green" if value > 0 else "tab:orange" for value in values]
    right.barh(places, values, height=_BAR, color=colours)
    levels = [
        f"{short[name]}\n= {_cut(about.level)}" if about.level else ""
        for name, about in found.items()
    ]
    right.set_yticks(places, levels)
    right.set(xlim=(-1, 1))
    right.axvline(0, color="black", linewidth=0.8)
    for axes in (left, right):
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.tick_params(labelsize=9)
        axes.grid(axis="x", alpha=0.3)


def _cut(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
