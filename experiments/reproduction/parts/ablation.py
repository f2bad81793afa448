"""AutoRefine without the retrieval reward, and without reward and refine step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, BEFORE
from experiments.reproduction.parts.base import (
    COLOURS,
    Findings,
    Part,
    Table,
    bars,
    difference_claim,
    line,
    paper,
    title,
)
from experiments.reproduction.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("autorefine", "f1", "no_refine", "thoughts")
CONTROL = "thoughts"
_ABOUT_CONTROL = (
    "The last arm is a control, not the paper's: it writes what stands in a refine block as a "
    "thought, so that it differs from the arm above in writing notes, and from the second in where "
    "they stand."
)
GROUPS = ("all", "single-hop", "multi-hop")


def find(results: Results) -> Findings:
    """Exact match of each arm, what it lost, and how it learned."""
    arms = [arm for arm in ARMS if results.has(arm)]
    means = {arm: [results.mean(arm, "em", group) for group in GROUPS] for arm in arms}
    published = paper()["ablation"]
    tables = (
        Table(
            "Exact match on the test questions",
            ("arm", *GROUPS, "before training, all"),
            tuple(
                (title(arm), *means[arm], results.mean(arm, "em", condition=BEFORE)) for arm in arms
            ),
            note=_ABOUT_CONTROL if CONTROL in arms else "",
        ),
        Table(
            "What is lost against AutoRefine, exact match, paired",
            ("arm", *GROUPS),
            tuple(
                (
                    title(arm),
                    *(results.difference(arm, "autorefine", "em", group) for group in GROUPS),
                )
                for arm in arms[1:]
            ),
        ),
        *([_notes(results)] if CONTROL in arms else []),
        Table(
            f"The paper's figures ({published['source']})",
            ("arm", "base", "instruct"),
            tuple((title(arm), *published["rows"][arm]) for arm in ARMS if arm != CONTROL),
        ),
    )
    rows = published["rows"]
    claims = tuple(
        difference_claim(
            text, "ablation", f"{rows['autorefine'][0]:.3f} against {rows[arm][0]:.3f}",
            results.difference("autorefine", arm, "em"),
        )
        for arm, text in (
            ("f1", "The retrieval reward helps"),
            ("no_refine", "Refine step and retrieval reward help together"),
        )
    )  # fmt: skip
    curves = {arm: results.curve(arm, "held_out/em") for arm in arms}
    return Findings(tables, claims, {"means": means, "curves": curves})


def _notes(results: Results) -> Table:
    """What the control tells apart."""
    pairs = (
        ("notes as thoughts minus no notes", CONTROL, "no_refine"),
        ("notes in refine blocks minus notes as thoughts", "f1", CONTROL),
    )
    return Table(
        "Writing notes, and where",
        ("comparison", *GROUPS),
        tuple(
            (label, *(results.difference(first, second, "em", group) for group in GROUPS))
            for label, first, second in pairs
        ),
    )


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match by hops, and over training."""
    left, right = figure.subplots(1, 2)
    means, curves = findings.drawn["means"], findings.drawn["curves"]
    bars(left, GROUPS, [(title(arm), COLOURS[arm], means[arm]) for arm in means])
    left.set(ylabel="exact match, test", ylim=(0, 1))
    for arm in curves:
        line(right, curves[arm], title(arm), COLOURS[arm])
    right.set(xlabel="optimiser step", ylabel="exact match, held out", ylim=(0, 1))
    right.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, loc="outside upper center", fontsize="small")


PART = Part(
    name="ablation",
    title="Ablation",
    about="Which part of AutoRefine is worth what? Without the retrieval reward the refine step "
    "stays and the answer alone is paid; without both the protocol is Search-R1's and F1 is paid.",
    arms=dict.fromkeys(ARMS, (AS_TRAINED, BEFORE)),
    find=find,
    draw=draw,
    size=(10.0, 4.4),
)
