"""What adversaries earn under each reward, and what a policy learns to exploit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction import forgery
from experiments.reproduction.arms import AS_TRAINED
from experiments.reproduction.parts.base import Findings, Part, Table, difference_claim
from experiments.reproduction.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "autorefine": "autorefine, 0.1",
    "official": "official, 0.1",
    "weight_0.5": "autorefine, 0.5",
    "official_0.5": "official, 0.5",
}
MEASURES = {
    "em": "exact match",
    "refine_hit": "paid by our reading",
    "refine_hit_official": "paid by the published reading",
    "refine_grounded": "refined words that are in the documents",
    "refine_copied": "documents' words that are copied",
    "tokens/refine": "tokens of refine",
}


def find(results: Results) -> Findings:
    """Scripted adversaries under every preset; policies trained under two of them."""
    scripted = forgery.kept(results.place.root)
    tables = (
        Table(
            "Policies by the reward of training, test questions",
            ("reward", *MEASURES.values()),
            tuple(
                (label, *(results.mean(arm, metric) for metric in MEASURES))
                for arm, label in LABELS.items()
            ),
            note="Paid: the refine blocks hold a gold answer, whether or not the answer earned "
            "more. The published reading looks for it as a raw substring in all refine blocks; "
            "ours at word boundaries in those that follow a search.",
        ),
        Table(
            "What `official` makes other than `autorefine`, paired",
            ("refine weight", *MEASURES.values()),
            tuple(
                (
                    weight,
                    *(results.difference(second, first, metric) for metric in MEASURES),
                )
                for weight, first, second in (
                    ("0.1", "autorefine", "official"),
                    ("0.5", "weight_0.5", "official_0.5"),
                )
            ),
        ),
    )
    claims = (
        difference_claim(
            "A policy trained under `official` copies more of the documents (weight 0.5)",
            "asked here",
            "",
            results.difference("official_0.5", "weight_0.5", "refine_copied"),
        ),
        difference_claim(
            "A larger refine weight makes the policy copy more (0.5 against 0.1)",
            "asked here",
            "",
            results.difference("weight_0.5", "autorefine", "refine_copied"),
        ),
    )
    return Findings(tables, claims, {"scripted": scripted}, forgery.section(scripted))


def draw(findings: Findings, figure: Figure) -> None:
    """What each adversary earns under each reward."""
    forgery.draw(findings.drawn["scripted"], figure)


PART = Part(
    name="reward-hacking",
    title="Reward hacking",
    about="What do agents earn that copy documents, list candidates or forge tags? And does a "
    "policy find such a way by itself when the reward reads as the published code does?",
    arms=dict.fromkeys(LABELS, (AS_TRAINED,)),
    find=find,
    draw=draw,
    size=(9.0, 5.5),
)
