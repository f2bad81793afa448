"""Whether the searches bring up a gold answer, over training and by hops."""

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

ARMS = ("autorefine", "research", "search_r1")


def find(results: Results) -> Findings:
    """Search success: a gold answer in the documents of any search of the episode."""
    groups = results.groups("autorefine")
    means = {arm: [results.mean(arm, "search_success", group) for group in groups] for arm in ARMS}
    published = paper()["quality"]
    rows = published["rows"]
    tables = (
        Table(
            "Share of test questions with a gold answer in a document that was found",
            ("arm", *groups, "before training, all"),
            tuple(
                (
                    title(arm),
                    *means[arm],
                    results.mean(arm, "search_success", condition=BEFORE),
                )
                for arm in ARMS
            ),
            note="The published metric leaves out the first block of documents, so that an episode "
            "with a single search never succeeds; here every block counts.",
        ),
        Table(
            "Share of the supporting documents that were found",
            ("arm", *groups),
            tuple(
                (title(arm), *(results.mean(arm, "supporting_recall", g) for g in groups))
                for arm in ARMS
            ),
        ),
        Table(
            f"The paper's figures ({published['source']})",
            ("arm", *published["columns"]),
            tuple((title(arm), *(f"{value:.1f}" for value in rows[arm])) for arm in ARMS),
        ),
    )
    claims = tuple(
        difference_claim(
            f"AutoRefine finds more answers than {title(other)}, {kind}",
            "search success",
            f"mean of the {kind} datasets {_mean(rows['autorefine'], part):.1f} against "
            f"{_mean(rows[other], part):.1f} %",
            results.difference("autorefine", other, "search_success", kind),
        )
        for other in ("research", "search_r1")
        for kind, part in (("multi-hop", slice(3, 7)), ("single-hop", slice(0, 3)))
    )
    curves = {
        arm: {
            hop: results.curve(arm, f"held_out/search_success/{hop}") for hop in ("2-hop", "3-hop")
        }
        for arm in ARMS
    }
    return Findings(tables, claims, {"groups": groups, "means": means, "curves": curves})


def _mean(values: list[float], part: slice) -> float:
    return sum(values[part]) / len(values[part])


def draw(findings: Findings, figure: Figure) -> None:
    """By hops after training, and over training on two and three hops."""
    left, right = figure.subplots(1, 2)
    drawn = findings.drawn
    bars(left, drawn["groups"], [(title(arm), COLOURS[arm], drawn["means"][arm]) for arm in ARMS])
    left.set(ylabel="search success, test", ylim=(0, 1))
    left.tick_params(axis="x", labelsize="small")
    for arm in ARMS:
        for hop, style in (("2-hop", "-"), ("3-hop", "--")):
            line(right, drawn["curves"][arm][hop], f"{title(arm)}, {hop}", COLOURS[arm], style)
    right.set(xlabel="optimiser step", ylabel="search success, held out", ylim=(0, 1))
    right.legend(fontsize="x-small")
    right.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="outside upper center", fontsize="small")


PART = Part(
    name="search-quality",
    title="Search quality",
    about="Do the searches bring up what answers the question?",
    arms=dict.fromkeys(ARMS, (AS_TRAINED, BEFORE)),
    find=find,
    draw=draw,
    size=(10.5, 4.4),
)
