"""AutoRefine and Search-R1 with smaller and larger models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, BEFORE
from experiments.reproduction.parts.base import (
    COLOURS,
    Findings,
    Part,
    Table,
    difference_claim,
    points,
    title,
)
from experiments.reproduction.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = ("small", "usual", "large")
ARMS = {
    "autorefine": ("small", "autorefine", "large"),
    "search_r1": ("search_r1_small", "search_r1", "search_r1_large"),
}
"""Protocol -> arms by size."""


def find(results: Results) -> Findings:
    """Exact match before and after training, by size."""
    means = {protocol: [results.mean(arm, "em") for arm in arms] for protocol, arms in ARMS.items()}
    tables = (
        Table(
            "Exact match, by size",
            ("arm", *(f"{size}, {when}" for size in SIZES for when in ("before", "after"))),
            tuple(
                (
                    title(protocol),
                    *(
                        results.mean(arm, "em", "all", condition)
                        for arm in arms
                        for condition in (BEFORE, AS_TRAINED)
                    ),
                )
                for protocol, arms in ARMS.items()
            ),
        ),
    )
    claims = tuple(
        difference_claim(
            f"AutoRefine is ahead of Search-R1 with a {size} model",
            "3B and 7B",
            {"large": "7B: 0.455 against 0.408", "usual": "3B: 0.405 against 0.312"}.get(size, ""),
            results.difference(first, second, "em"),
        )
        for size, first, second in zip(SIZES, *ARMS.values(), strict=True)
    )
    return Findings(tables, claims, {"means": means})


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match over the size."""
    axes = figure.subplots()
    for protocol in ARMS:
        means = findings.drawn["means"][protocol]
        points(axes, range(len(SIZES)), means, title(protocol), COLOURS[protocol])
    axes.set_xticks(range(len(SIZES)), SIZES)
    axes.set(ylabel="exact match, test", ylim=(0, 1))
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


PART = Part(
    name="model-size",
    title="Model size",
    about="Does a weaker model gain from refining, too? Each size has a base of its own.",
    arms={arm: (AS_TRAINED, BEFORE) for arms in ARMS.values() for arm in arms},
    find=find,
    draw=draw,
    size=(6.5, 4.0),
)
