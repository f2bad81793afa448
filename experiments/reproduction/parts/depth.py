"""How many documents a search returns: at the test, and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, DEPTHS, Condition
from experiments.reproduction.parts.base import (
    COLOURS,
    Findings,
    Part,
    Table,
    difference_claim,
    paper,
    points,
    title,
)
from experiments.reproduction.results import Results
from experiments.reproduction.statistics import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TESTED = ("autorefine", "research", "search_r1")
TRAINED = {1: "k_1", 3: "autorefine", 5: "k_5", 7: "k_7"}
"""Documents in training -> arm."""
USUAL = 3
DEEP = {"autorefine": "depths", "search_r1": "search_r1_depths"}
"""Arm -> the same from a warm start that has seen one to seven documents."""


def _at(k: int) -> Condition:
    return AS_TRAINED if k == USUAL else DEPTHS[k]


def find(results: Results) -> Findings:
    """Exact match at every depth."""
    arms = [arm for arm in (*TESTED, *DEEP.values()) if results.has(arm)]
    tested = {arm: [results.mean(arm, "em", "all", _at(k)) for k in DEPTHS] for arm in arms}
    trained = {k: results.mean(arm, "em") for k, arm in TRAINED.items()}
    published = paper()["depth"]
    tables = (
        Table(
            "Exact match, trained with k = 3 and tested with",
            ("arm", *(f"k = {k}" for k in DEPTHS)),
            tuple((title(arm), *tested[arm]) for arm in arms),
        ),
        Table(
            "AutoRefine trained and tested with the same k",
            ("", *(f"k = {k}" for k in TRAINED)),
            (
                ("exact match", *trained.values()),
                ("searches", *(results.mean(arm, "searches") for arm in TRAINED.values())),
                (
                    "search success",
                    *(results.mean(arm, "search_success") for arm in TRAINED.values()),
                ),
            ),
        ),
        Table(
            f"The paper's figures ({published['source']})",
            ("arm", *(f"k = {k}" for k in published["k"])),
            tuple((title(arm), *published["rows"][arm]) for arm in TESTED),
        ),
    )
    drawn = {"tested": tested, "trained": trained, "k": list(DEPTHS)}
    return Findings(tables, _claims(results), drawn)


def _claims(results: Results) -> tuple[Claim, ...]:
    rows = paper()["depth"]["rows"]
    ours = rows["autorefine"]
    pairs = [("", ("autorefine", "search_r1"))]
    if all(map(results.has, DEEP.values())):
        pairs.append(
            (", both from warm starts with 1 to 7", (DEEP["autorefine"], DEEP["search_r1"]))
        )
    ahead = [
        difference_claim(
            f"AutoRefine is ahead of Search-R1 at k = {k}{whose}",
            "retrieval depth",
            f"{a:.3f} against {b:.3f}",
            results.difference(*arms, "em", "all", _at(k)),
        )
        for whose, arms in pairs
        for k, a, b in zip((1, 3, 5, 7), ours, rows["search_r1"], strict=True)
    ]
    return (
        *ahead,
        difference_claim(
            "AutoRefine is better with three documents than with one",
            "retrieval depth",
            f"{ours[1]:.3f} against {ours[0]:.3f}",
            results.difference("autorefine", "autorefine", "em", "all", _at(3), _at(1)),
        ),
        difference_claim(
            "AutoRefine is worse with seven than with five",
            "retrieval depth",
            f"{ours[3]:.3f} against {ours[2]:.3f}",
            results.difference("autorefine", "autorefine", "em", "all", _at(5), _at(7)),
        ),
    )


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match over k: tested with other depths, and trained with them."""
    left, right = figure.subplots(1, 2, sharey=True)
    drawn = findings.drawn
    for arm, means in drawn["tested"].items():
        usual = arm in TESTED
        colour = COLOURS[arm if usual else next(a for a in DEEP if DEEP[a] == arm)]
        points(left, drawn["k"], means, title(arm), colour, "o-" if usual else "s--")
    left.set(xlabel="documents of a search, test (trained with 3)", ylabel="exact match, test")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    means = list(drawn["trained"].values())
    points(right, list(drawn["trained"]), means, title("autorefine"), COLOURS["autorefine"])
    right.set(xlabel="documents of a search, training and test")
    for axes in (left, right):
        axes.set(ylim=(0, 1))
        axes.grid(alpha=0.3)


PART = Part(
    name="depth",
    title="Retrieval depth",
    about="How many documents should a search return? Policies trained with three are tested with "
    "one to seven; others are trained with one, five and seven, or begin with a warm start that "
    "has seen all of them.",
    arms={
        **dict.fromkeys(
            (*TESTED, *DEEP.values()), (AS_TRAINED, *(DEPTHS[k] for k in DEPTHS if k != USUAL))
        ),
        **dict.fromkeys((arm for k, arm in TRAINED.items() if k != USUAL), (AS_TRAINED,)),
    },
    find=find,
    draw=draw,
    size=(9.0, 4.6),
)
