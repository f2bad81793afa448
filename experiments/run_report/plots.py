"""The pictures of the comparison: learning curves of groups, and where their seeds ended."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.curves import Point, repeated_curve, running_mean
from experiments.pages import save_figure
from experiments.run_report.groups import Group
from experiments.run_report.runs import HELD_OUT, TrainingRun
from experiments.run_report.seeds import by_seed, estimates
from refine_env.sections import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURED = 8
"""Groups that have a colour of their own; of more the others are grey."""
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#8c564b",
)  # fmt: skip
"""Told apart by colour-blind readers, too (after Okabe and Ito)."""
_GREY = "#c4c4c4"
_PANELS = {
    "reward/total": "training reward",
    "metric/searches": "searches an episode",
    "metric/search_success": "search success",
    "metric/refine_success": "refine success",
}
_POINTS_SHOWN = 20
"""Of a longer training curve, the running mean is over so many steps that about this many parts
of it are independent."""
PLOTS = ("held_out", "training", "groups")
"""Names of the files, without their ends."""


def draw_all(groups: Sequence[Group], folder: Path) -> dict[str, list[Path]]:
    """Write the plots that have something to show; name -> its files. Older ones of others go."""
    drawn = {"held_out": held_out_plot, "training": training_plot, "groups": groups_plot}
    written = {}
    for name in PLOTS:
        figure = drawn[name](groups)
        if figure is not None:
            written[name] = save_figure(figure, folder / name)
        else:
            for end in ("png", "svg"):
                (folder / f"{name}.{end}").unlink(missing_ok=True)
    return written


def held_out_plot(groups: Sequence[Group]) -> Figure | None:
    """Held-out reward over the steps; None where no run has told it."""
    if not _has(groups, HELD_OUT):
        return None
    colours = _colours(groups, [HELD_OUT])
    figure, axes = _figure(colours, (8.0, 4.4), 1, 1)
    _curves(axes[0], groups, colours, lambda run: run.points(HELD_OUT), marker="o", markersize=3.5)
    axes[0].set(xlabel="optimiser step", ylabel="held-out reward")
    return figure


def training_plot(groups: Sequence[Group]) -> Figure | None:
    """What rollouts did in training; None where no run has told it."""
    shown = [name for name in _PANELS if _has(groups, name)]
    if not shown:
        return None
    window = smoothing(groups)
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    colours = _colours(groups, shown)
    figure, axes = _figure(colours, (4.6 * columns + 0.4, 2.9 * rows), rows, columns)
    for place, name in zip(axes, shown, strict=False):

        def smooth(run: TrainingRun, name: str = name) -> list[Point]:
            return running_mean(run.points(name), window)

        _curves(place, groups, colours, smooth, linewidth=1.6)
        place.set(ylabel=_PANELS[name])
    for place in axes[len(shown) :]:
        place.remove()
    for place in axes[max(0, len(shown) - columns) : len(shown)]:
        place.set_xlabel("optimiser step")
    return figure


def groups_plot(groups: Sequence[Group]) -> Figure | None:
    """The last held-out reward of every seed and the means of groups; None with fewer than two."""
    from matplotlib.figure import Figure

    told = {group.name: estimates(group).get(HELD_OUT) for group in groups}
    shown = sorted(
        ((group, found) for group in groups if (found := told[group.name]) is not None),
        key=lambda pair: pair[1].mean,
    )
    if len(shown) < 2:
        return None
    figure = Figure(figsize=(8.0, 1.2 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = _colours(groups, [HELD_OUT])
    for place, (group, found) in enumerate(shown):
        colour = colours[group.name]
        seeds = list(by_seed(group, HELD_OUT).values())
        axes.plot(seeds, [place] * len(seeds), "o", color=colour, alpha=0.4, markersize=5)
        if found.low is not None and found.high is not None:
            spread = [[found.mean - found.low], [found.high - found.mean]]
            axes.errorbar(found.mean, place, xerr=spread, color=colour, capsize=4, linewidth=1.6)
        axes.plot(found.mean, place, "D", color=colour, markersize=7)
    axes.set_yticks(range(len(shown)), [_label(group.name) for group, _ in shown])
    axes.set(xlabel="last held-out reward", ylim=(-0.6, len(shown) - 0.4))
    axes.grid(alpha=0.3, axis="x")
    return figure


def smoothing(groups: Sequence[Group]) -> int:
    """Over how many steps training curves are averaged."""
    longest = max((len(run.points("reward/total")) for g in groups for run in g.runs), default=0)
    return max(1, longest // _POINTS_SHOWN)


def _has(groups: Sequence[Group], metric: str) -> bool:
    return any(run.points(metric) for group in groups for run in group.runs)


def _figure(
    colours: Mapping[str, str], size: tuple[float, float], rows: int, columns: int
) -> tuple[Figure, list[Any]]:
    """A figure with the legend of the groups (name -> colour) below its axes."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    entries = [(_label(name), colour) for name, colour in colours.items() if colour != _GREY]
    if len(colours) > len(entries):
        entries.append((f"{len(colours) - len(entries)} other groups", _GREY))
    labels = [label for label, _ in entries]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    across = max(1, min(4, len(entries), int(size[0] * 12) // (longest + 6)))
    below = -(-len(entries) // across) * (1 + max(label.count("\n") for label in labels))
    figure = Figure(figsize=(size[0], size[1] + 0.2 * below), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for place in axes:
        place.grid(alpha=0.3)
    lines = [Line2D([], [], color=colour, linewidth=2) for _, colour in entries]
    figure.legend(
        lines, labels, loc="outside lower center", ncols=across, fontsize=9, frameon=False
    )
    return figure, axes


def _curves(
    axes: Any,
    groups: Sequence[Group],
    colours: Mapping[str, str],
    points: Callable[[TrainingRun], Sequence[Point]],
    **style: Any,
) -> None:
    for group in groups:
        runs = [found for run in group.runs if (found := points(run))]
        if runs:
            colour = colours[group.name]
            repeated_curve(axes, runs, color=colour, zorder=2.5 - (colour == _GREY), **style)


def _colours(groups: Sequence[Group], metrics: Sequence[str]) -> dict[str, str]:
    """Group -> colour, of those with one of the metrics. A group has one colour in all plots; of
    more groups than there are colours, those with the best last rewards have one.
    """

    def reward(group: Group) -> float:
        found = estimates(group).get(HELD_OUT)
        return float("-inf") if found is None else found.mean

    drawn = [g for g in groups if any(_has([g], metric) for metric in (HELD_OUT, *_PANELS))]
    best = {group.name for group in sorted(drawn, key=reward, reverse=True)[:COLOURED]}
    left = iter(_COLOURS)
    colours = {group.name: next(left) if group.name in best else _GREY for group in drawn}
    shown = [group.name for group in drawn if any(_has([group], metric) for metric in metrics)]
    return {name: colours[name] for name in shown}


def _label(name: str) -> str:
    """A name as matplotlib shows it letter by letter: `$` would begin a formula, and a legend
    leaves out what begins with `_`.
    """
    text = textwrap.fill(visible(name), 48, max_lines=3, placeholder=" …").replace("$", r"\$")
    return f"\u2009{text}" if text.startswith("_") else text
