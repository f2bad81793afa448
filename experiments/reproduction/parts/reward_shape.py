"""Non-linear, linear and outcome rewards, and the weight of the refine reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED
from experiments.reproduction.parts.base import (
    Findings,
    Part,
    Table,
    difference_claim,
    line,
    points,
)
from experiments.reproduction.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = {0.0: "f1", 0.05: "weight_0.05", 0.1: "autorefine", 0.2: "weight_0.2", 0.5: "weight_0.5"}
"""Refine weight of the non-linear reward -> arm; with 0 the outcome alone is paid."""
LINEAR = {0.0: "f1", 0.1: "linear", 0.5: "linear_0.5"}
ARMS = tuple(dict.fromkeys((*WEIGHTS.values(), *LINEAR.values())))
MEASURES = ("em", "f1", "refine_success", "refine_copied", "searches", "tokens/refine")
LABELS = {
    "f1": "outcome only (F1)",
    "weight_0.05": "non-linear, 0.05",
    "autorefine": "non-linear, 0.1",
    "weight_0.2": "non-linear, 0.2",
    "weight_0.5": "non-linear, 0.5",
    "linear": "linear, 0.1",
    "linear_0.5": "linear, 0.5",
}
NON_LINEAR_COLOUR, LINEAR_COLOUR = "#1b6ca8", "#d1495b"


def find(results: Results) -> Findings:
    """What policies trained under each reward do; they are all measured alike."""
    tables = (
        Table(
            "Test questions, by the reward of training",
            ("reward", *MEASURES),
            tuple(
                (LABELS[arm], *(results.mean(arm, metric) for metric in MEASURES)) for arm in ARMS
            ),
            note="`refine_copied` is the share of the documents' words that the refine blocks "
            "repeat.",
        ),
        Table(
            "Against the non-linear reward of weight 0.1, exact match, paired",
            ("reward", "all", "single-hop", "multi-hop"),
            tuple(
                (
                    LABELS[arm],
                    *(
                        results.difference(arm, "autorefine", "em", group)
                        for group in ("all", "single-hop", "multi-hop")
                    ),
                )
                for arm in ARMS
                if arm != "autorefine"
            ),
        ),
    )
    claims = (
        difference_claim(
            "The non-linear reward is better than the linear one (weight 0.1)",
            "reward shape",
            "clearly worse when linear, without figures",
            results.difference("autorefine", "linear", "em"),
        ),
        difference_claim(
            "The non-linear reward is better than the outcome alone",
            "ablation",
            "0.405 against 0.376",
            results.difference("autorefine", "f1", "em"),
        ),
    )
    drawn = {
        "weights": {weight: results.mean(arm, "em") for weight, arm in WEIGHTS.items()},
        "linear": {weight: results.mean(arm, "em") for weight, arm in LINEAR.items()},
        "curves": {
            arm: results.curve(arm, "held_out/em") for arm in ("f1", "autorefine", "linear")
        },
    }
    return Findings(tables, claims, drawn)


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match over the weight, and over training."""
    left, right = figure.subplots(1, 2, sharey=True)
    drawn = findings.drawn
    for name, label, colour in (
        ("weights", "non-linear", NON_LINEAR_COLOUR),
        ("linear", "linear", LINEAR_COLOUR),
    ):
        points(left, list(drawn[name]), list(drawn[name].values()), label, colour)
    left.set(xlabel="refine weight (0: outcome only)", ylabel="exact match, test", ylim=(0, 1))
    left.legend(fontsize="small")
    for arm, colour in (
        ("f1", "#7d8597"), ("autorefine", NON_LINEAR_COLOUR), ("linear", LINEAR_COLOUR),
    ):  # fmt: skip
        line(right, drawn["curves"][arm], LABELS[arm], colour)
    right.set(xlabel="optimiser step")
    right.set_title("exact match, held out", fontsize="medium")
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)


PART = Part(
    name="reward-shape",
    title="Reward shape",
    about="How should refined knowledge be paid? Non-linear: where the answer earns nothing, the "
    "weight if the refine blocks hold a gold answer. Linear: the weight on top of F1.",
    arms=dict.fromkeys(ARMS, (AS_TRAINED,)),
    find=find,
    draw=draw,
    size=(10.0, 4.2),
)
