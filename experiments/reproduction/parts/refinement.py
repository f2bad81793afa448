"""What refine blocks keep: their success beside that of documents and answers, their length, and
what happens when the documents leave the context once they are refined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, BEFORE, DROPPED
from experiments.reproduction.parts.base import (
    Findings,
    Part,
    Table,
    difference_claim,
    line,
    paper,
    title,
)
from experiments.reproduction.results import Results
from experiments.reproduction.statistics import (
    Claim,
    Difference,
    Mean,
    no_worse_verdict,
    told,
    told_with_p,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARM = "autorefine"
HAS_SEEN = "dropping"
"""The same from a warm start in which documents were dropped, too."""
MARGIN = 0.05
"""What dropping documents may cost and still count as nothing lost."""
KEPT = (
    ("search_success", "documents", "#7d8597"),
    ("refine_success", "refine blocks", "#edae49"),
    ("em", "answer", "#1b6ca8"),
)
"""Metric -> what it is the success of, colour."""
LENGTHS = (
    ("tokens/documents", "documents"),
    ("tokens/refine", "refine blocks"),
    ("tokens/answer", "answer"),
    ("tokens/read", "longest prompt"),
)


def find(results: Results) -> Findings:
    """Success and length of documents, refine blocks and answers; the same without documents."""
    groups = results.groups(ARM)
    conditions = (("before training", BEFORE), ("after", AS_TRAINED), ("after, dropped", DROPPED))
    success = Table(
        "Share of test questions with a gold answer in",
        ("", *(f"{label}, {when}" for _, label, _ in KEPT for when in ("before", "after"))),
        tuple(
            (
                group,
                *(
                    results.mean(ARM, metric, group, condition)
                    for metric, _, _ in KEPT
                    for condition in (BEFORE, AS_TRAINED)
                ),
            )
            for group in groups
        ),
        note="Of the answer: exact match.",
    )
    lengths = {
        when: {metric: results.mean(ARM, metric, "all", condition) for metric, _ in LENGTHS}
        for when, condition in conditions
    }
    tokens = Table(
        "Tokens of an episode",
        ("", *(label for _, label in LENGTHS), "refined words / document words"),
        tuple(
            (
                when,
                *(_whole(lengths[when][metric]) for metric, _ in LENGTHS),
                results.mean(ARM, "compression", "all", condition),
            )
            for when, condition in conditions
        ),
        note="Dropped: a block of documents is empty from the turn after it was refined.",
    )
    arms = [arm for arm in (ARM, HAS_SEEN) if results.has(arm)]
    dropped = (
        *(_dropped(results, arm, groups) for arm in arms),
        _what_is_lost(results, arms),
    )
    curves = {metric: results.curve(ARM, f"held_out/{metric}") for metric, _, _ in KEPT}
    drawn = {"curves": curves, "lengths": lengths}
    return Findings((success, tokens, *dropped), _claims(results, lengths["after"]), drawn)


def _dropped(results: Results, arm: str, groups: Sequence[str]) -> Table:
    return Table(
        f"Exact match with documents dropped once refined: {title(arm)}",
        ("", "documents stay", "dropped", "dropped minus stay"),
        tuple(
            (
                group,
                results.mean(arm, "em", group),
                results.mean(arm, "em", group, DROPPED),
                results.difference(arm, arm, "em", group, DROPPED, AS_TRAINED),
            )
            for group in groups
        ),
        note=""
        if arm == ARM
        else "Its warm start imitates a quarter more rows, in as many steps: "
        "turns after refined documents once more, without them. Training is the same.",
    )


def _what_is_lost(results: Results, arms: Sequence[str]) -> Table:
    """Where an episode without documents fails."""
    metrics = ("refine_success", "searches", "closed", "em")
    return Table(
        "Multi-hop questions, with documents and with documents dropped",
        ("", "refine success", "searches", "answered", "exact match"),
        tuple(
            (
                f"{title(arm)}, {when}",
                *(results.mean(arm, metric, "multi-hop", condition) for metric in metrics),
            )
            for arm in arms
            for when, condition in (("documents stay", AS_TRAINED), ("dropped", DROPPED))
        ),
    )


def _whole(value: Mean) -> str:
    return told(value, digits=1)


def _claims(results: Results, after: dict[str, Mean]) -> tuple[Claim, ...]:
    published = paper()["refinement"]
    share = after["tokens/refine"].mean / after["tokens/documents"].mean
    return (
        Claim(
            "Refine blocks are about a quarter as long as the documents, or shorter",
            "lengths",
            f"documents {published['documents']}, refine {published['refine']} tokens",
            f"{after['tokens/refine'].mean:.1f} of {after['tokens/documents'].mean:.1f} tokens: "
            f"{share:.2f}",
            "shown" if share <= 0.25 else "not shown",
        ),
        difference_claim(
            "Refine success grows over training",
            "refine success",
            "it rises with that of the searches",
            results.gain(ARM, "refine_success"),
        ),
        _can_be_dropped(
            f"Documents can be dropped once they are refined: it costs less than {MARGIN} exact "
            "match",
            ("refinement", "about as good with 100 to 200 tokens in place of 600"),
            results.difference(ARM, ARM, "em", "all", DROPPED, AS_TRAINED),
        ),
        *([_asked_here(results)] if results.has(HAS_SEEN) else []),
    )


def _can_be_dropped(text: str, paper_says: tuple[str, str], cost: Difference) -> Claim:
    verdict = no_worse_verdict(cost, MARGIN)
    return Claim(text, *paper_says, told_with_p(cost), verdict)


def _asked_here(results: Results) -> Claim:
    cost = results.difference(HAS_SEEN, HAS_SEEN, "em", "all", DROPPED, AS_TRAINED)
    text = "The same of a policy whose warm start has shown it"
    return _can_be_dropped(text, ("asked here", ""), cost)


def draw(findings: Findings, figure: Figure) -> None:
    """Successes over training; tokens with and without documents."""
    left, right = figure.subplots(1, 2)
    for metric, label, colour in KEPT:
        line(left, findings.drawn["curves"][metric], label, colour)
    left.set(xlabel="optimiser step", ylabel="share with a gold answer, held out", ylim=(0, 1))
    left.legend(fontsize="small")
    left.grid(alpha=0.3)
    lengths = findings.drawn["lengths"]
    for number, (when, colour) in enumerate(
        (("before training", "#b8bfc9"), ("after", "#1b6ca8"), ("after, dropped", "#edae49"))
    ):
        places = [place + (number - 1) * 0.27 for place in range(len(LENGTHS))]
        heights = [lengths[when][metric].mean for metric, _ in LENGTHS]
        drawn = right.bar(places, heights, 0.25, label=when, color=colour, zorder=2)
        right.bar_label(drawn, fmt="%.0f", fontsize="x-small", padding=1)
    right.set_xticks(range(len(LENGTHS)), [label for _, label in LENGTHS], fontsize="small")
    right.set_ylabel("tokens of an episode, test")
    right.legend(fontsize="small")
    right.grid(axis="y", alpha=0.3, zorder=0)


PART = Part(
    name="refinement",
    title="Refinement",
    about="Do the refine blocks keep what matters of the documents, in how many tokens, and can "
    "they stand in for them?",
    arms={ARM: (AS_TRAINED, BEFORE, DROPPED), HAS_SEEN: (AS_TRAINED, DROPPED)},
    find=find,
    draw=draw,
    size=(10.5, 4.2),
)
