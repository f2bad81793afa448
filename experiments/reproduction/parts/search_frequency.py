"""How often the policy searches over training, on single-hop and on multi-hop questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, BEFORE
from experiments.reproduction.parts.base import (
    GROUP_COLOURS,
    Findings,
    Part,
    Table,
    difference_claim,
    line,
    paper,
    title,
)
from experiments.reproduction.results import Results
from experiments.reproduction.statistics import difference_of_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("autorefine", "f1", "no_refine")
HOPS = ("1-hop", "2-hop", "3-hop")


def find(results: Results) -> Findings:
    """Searches a question, before and after training and on the way."""
    groups = results.groups("autorefine")
    table = Table(
        "Searches a test question",
        ("arm", "when", *groups),
        tuple(
            (title(arm), when, *(results.mean(arm, "searches", g, condition) for g in groups))
            for arm in ARMS
            for when, condition in (("before", BEFORE), ("after", AS_TRAINED))
        ),
        note="A question of n hops takes n searches here, one for each name on its path.",
    )
    published = paper()["frequency"]
    asked = {
        group: results.scores("autorefine", "searches", group)
        for group in ("single-hop", "multi-hop")
    }
    nothing = {group: scores * 0 for group, scores in asked.items()}
    claims = (
        difference_claim(
            "AutoRefine learns to search more",
            "search frequency",
            published["all"],
            results.gain("autorefine", "searches"),
        ),
        difference_claim(
            "It searches more for multi-hop questions than for single-hop ones",
            "search frequency",
            f"multi-hop {published['multi_hop']}, single-hop {published['single_hop']}",
            difference_of_gains(
                (asked["multi-hop"], nothing["multi-hop"]),
                (asked["single-hop"], nothing["single-hop"]),
            ),
        ),
        difference_claim(
            "Without the retrieval reward it searches less",
            "search frequency",
            "about 1.4 against 2.2",
            results.difference("autorefine", "f1", "searches"),
        ),
        difference_claim(
            "Without reward and refine step it searches less",
            "search frequency",
            "about 1.0 against 2.2",
            results.difference("autorefine", "no_refine", "searches"),
        ),
    )
    curves = {
        arm: {hop: results.curve(arm, f"held_out/searches/{hop}") for hop in HOPS} for arm in ARMS
    }
    return Findings((table,), claims, {"curves": curves})


def draw(findings: Findings, figure: Figure) -> None:
    """A panel for each arm, a line for each hop count."""
    panels = figure.subplots(1, len(ARMS), sharey=True)
    for axes, arm in zip(panels, ARMS, strict=True):
        for hop in HOPS:
            line(axes, findings.drawn["curves"][arm][hop], hop, GROUP_COLOURS[hop])
        axes.set(xlabel="optimiser step", ylim=(0, None))
        axes.set_title(title(arm), fontsize="medium")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("searches a question, held out")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, loc="outside upper center", fontsize="small")


PART = Part(
    name="search-frequency",
    title="Search frequency",
    about="Does the policy learn to search as often as a question needs?",
    arms=dict.fromkeys(ARMS, (AS_TRAINED, BEFORE)),
    find=find,
    draw=draw,
    size=(10.0, 3.8),
)
