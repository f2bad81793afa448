"""Plots of training runs and of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.evaluation.paired import Difference

Point = tuple[float, float]
"""Step and value."""

_SHARES = (
    "em", "f1", "cover_em", "search_success", "supporting_recall", "refine_success",
    "refine_grounded", "closed", "truncated",
)  # fmt: skip
"""Metrics from 0 to 1, which can stand on one axis."""


def learning_curve(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw what `metrics.jsonl` says over the steps: rewards above, the held-out one with its 95 %
    interval; behaviour below (PNG).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _line(above, rows, "reward/total", "training, sampled", color="tab:gray", linewidth=1)
    _line(above, rows, "held_out/reward", "held out, greedy", color="black", marker="o")
    _band(above, rows, "held_out/reward_low", "held_out/reward_high")
    groups = sorted({name for row in rows for name in row if name.startswith("held_out/reward/")})
    for name in groups:
        group = name.removeprefix("held_out/reward/")
        _line(above, rows, name, f"held out, {group}", linestyle="--", marker=".")
    above.set(ylabel="reward", ylim=(0, 1.02), title="Reward")
    _line(below, rows, "metric/searches", "searches an episode", color="tab:blue")
    shares = below.twinx()
    _line(shares, rows, "metric/search_success", "search success", color="tab:green")
    _line(shares, rows, "metric/refine_success", "refine success", color="tab:orange")
    shares.set(ylabel="share of episodes", ylim=(0, 1.02))
    below.set(ylabel="searches", ylim=(0, None), xlabel="optimiser step", title="Behaviour")
    above.legend(loc="lower right", fontsize="small")
    handles = [*below.get_lines(), *shares.get_lines()]
    shares.legend(handles=handles, loc="lower right", fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def repeated_curve(axes: Axes, runs: Sequence[Sequence[Point]], **style: Any) -> None:
    """Draw the mean of repetitions over the steps, with a band from the lowest to the highest.

    Where the last steps are not of all repetitions, the mean of those that have them is dotted.
    """
    values: dict[float, list[float]] = {}
    for run in runs:
        for step, value in run:
            values.setdefault(step, []).append(value)
    whole = max(map(len, values.values()), default=0)
    steps = sorted(step for step in values if len(values[step]) == whole)
    rest = sorted(step for step in values if steps and step >= steps[-1])
    means = {step: sum(some) / len(some) for step, some in values.items()}
    low, high = ([pick(values[step]) for step in steps] for pick in (min, max))
    curve_with_band(axes, steps, [means[step] for step in steps], low, high, **style)
    if len(rest) > 1:
        dotted = {key: style[key] for key in ("color", "linewidth", "zorder") if key in style}
        axes.plot(rest, [means[step] for step in rest], linestyle=":", **dotted)


def curve_with_band(
    axes: Axes,
    steps: Sequence[float],
    middle: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    **style: Any,
) -> None:
    """Draw a line with a band of its colour from `low` to `high`; without one where they are the
    same everywhere. `style` is the line's.
    """
    (line,) = axes.plot(steps, middle, **style)
    if list(low) != list(high):
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each value as the mean of those around it, `window` of them; at the ends of fewer."""
    before, after = (window - 1) // 2, window // 2
    smooth = []
    for place, (step, _) in enumerate(points):
        around = [value for _, value in points[max(0, place - before) : place + after + 1]]
        smooth.append((step, sum(around) / len(around)))
    return smooth


def paired_plot(
    comparisons: Sequence[tuple[str, Mapping[str, Difference], Sequence[float]]],
    metric: str,
    path: Path,
) -> None:
    """Draw (name, metric -> difference, differences of questions that differ) of each comparison:
    differences with their intervals on the left, the sorted gains and losses in `metric` on the
    right (PNG).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, differences, gains) in enumerate(comparisons):
        shown = [metric for metric in _SHARES if metric in differences]
        values = [differences[metric] for metric in shown]
        shift = 0.6 * ((number + 0.5) / len(comparisons) - 0.5)
        places = [place + shift for place in range(len(shown))]
        below = [value.mean - value.low for value in values]
        above = [value.high - value.mean for value in values]
        means = [value.mean for value in values]
        left.errorbar(means, places, xerr=[below, above], fmt="o", capsize=3, label=name)
        left.set_yticks(range(len(shown)), [metric.replace("_", " ") for metric in shown])
        right.step(range(len(gains)), sorted(gains, reverse=True), where="mid", label=name)
    left.invert_yaxis()
    left.set(xlabel="difference, 95 % interval", title="Paired differences")
    right.set(xlabel="questions that differ, sorted", ylabel=f"difference in {metric}")
    right.set_title("Questions won and lost")
    left.axvline(0, color="black", linewidth=0.8)
    right.axhline(0, color="black", linewidth=0.8)
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _line(axes, rows, name: str, label: str, **style) -> None:  # type: ignore[no-untyped-def]
    points = [(row["step"], row[name]) for row in rows if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def _band(axes, rows, low: str, high: str) -> None:  # type: ignore[no-untyped-def]
    points = [(row["step"], row[low], row[high]) for row in rows if low in row and high in row]
    if points:
        columns = zip(*points, strict=True)
        axes.fill_between(*columns, color="black", alpha=0.12, linewidth=0, label="95 % interval")
