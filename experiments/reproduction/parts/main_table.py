"""AutoRefine against Search-R1, ReSearch, a single retrieval and no retrieval."""

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
    paper,
    title,
)
from experiments.reproduction.results import Results
from experiments.reproduction.statistics import Claim, difference_of_gains, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("direct", "single", "research", "search_r1", "autorefine")
GROUPS = ("all", "single-hop", "multi-hop")
METRICS = {"em": "exact match", "f1": "F1", "cover_em": "cover EM"}


def find(results: Results) -> Findings:
    """Exact match by hops, before and after; AutoRefine against each other arm."""
    groups = results.groups("autorefine")
    ours = {arm: [results.mean(arm, "em", group) for group in groups] for arm in ARMS}
    before = [results.mean(arm, "em", condition=BEFORE) for arm in ARMS]
    tables = [
        Table(
            "Exact match on the test questions",
            ("arm", "before training, all", *groups),
            tuple((title(arm), start, *ours[arm]) for arm, start in zip(ARMS, before, strict=True)),
        ),
        Table(
            "AutoRefine minus the arm, exact match, paired",
            ("arm", *GROUPS),
            tuple(
                (
                    title(arm),
                    *(results.difference("autorefine", arm, "em", group) for group in GROUPS),
                )
                for arm in ARMS[:-1]
            ),
        ),
        Table(
            "What training added, exact match: after minus before",
            ("arm", *GROUPS, "AutoRefine's gain minus the arm's, all"),
            tuple(
                (
                    title(arm),
                    *(told(results.gain(arm, "em", group)) for group in GROUPS),
                    "" if arm == "autorefine" else results.more_gained("autorefine", arm, "em"),
                )
                for arm in ARMS
            ),
            note="The warm starts are not equally good, though they imitate the same episodes: "
            "some protocols are learned faster. This table is of what was learned after them.",
        ),
        Table(
            "Other measures, all questions",
            ("arm", *METRICS.values(), "searches", "answered"),
            tuple(
                (
                    title(arm),
                    *(results.mean(arm, metric) for metric in (*METRICS, "searches", "closed")),
                )
                for arm in ARMS
            ),
        ),
        _published(),
    ]
    return Findings(tuple(tables), _claims(results), {"groups": groups, "means": ours})


def _published() -> Table:
    published = paper()["main"]
    return Table(
        f"The paper's figures ({published['source']})",
        ("arm", *published["columns"]),
        tuple((title(arm), *published["rows"][arm]) for arm in ARMS),
        note="Other questions, another corpus and a model 20,000 times as large: what can be "
        "compared is the order of the arms and where they differ, not the numbers.",
    )


def _claims(results: Results) -> tuple[Claim, ...]:
    rows = paper()["main"]["rows"]
    claims = [
        difference_claim(
            f"AutoRefine answers more questions than {title(other)}",
            "main table",
            f"{rows['autorefine'][-1]:.3f} against {rows[other][-1]:.3f}",
            results.difference("autorefine", other, "em"),
        )
        for other in ("search_r1", "research")
    ]
    claims.append(
        difference_claim(
            "AutoRefine gains more in training than Search-R1",
            "asked here",
            "",
            results.more_gained("autorefine", "search_r1", "em"),
        )
    )
    claims.append(_larger_gain(results))
    for better, worse in (("search_r1", "single"), ("single", "direct")):
        claims.append(
            difference_claim(
                f"{title(better)[0].upper()}{title(better)[1:]} answers more than {title(worse)}",
                "main table",
                f"{rows[better][-1]:.3f} against {rows[worse][-1]:.3f}",
                results.difference(better, worse, "em"),
            )
        )
    return tuple(claims)


def _larger_gain(results: Results) -> Claim:
    """Whether the gain over Search-R1 is larger on multi-hop questions."""
    multi, single = (
        tuple(results.scores(arm, "em", group) for arm in ("autorefine", "search_r1"))
        for group in ("multi-hop", "single-hop")
    )
    rows = paper()["main"]["rows"]
    gains = [a - b for a, b in zip(rows["autorefine"], rows["search_r1"], strict=True)]
    return difference_claim(
        "The gain over Search-R1 is larger on multi-hop questions",
        "main table",
        f"{sum(gains[3:7]) / 4:+.3f} on the multi-hop datasets, {sum(gains[:3]) / 3:+.3f} on the "
        "others",
        difference_of_gains((multi[0], multi[1]), (single[0], single[1])),
    )


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match by hops."""
    axes = figure.subplots()
    groups, means = findings.drawn["groups"], findings.drawn["means"]
    bars(axes, groups, [(title(arm), COLOURS[arm], means[arm]) for arm in ARMS])
    axes.set(ylabel="exact match", ylim=(0, 1))
    axes.legend(ncols=len(ARMS), loc="upper center", bbox_to_anchor=(0.5, 1.13), fontsize="small")


PART = Part(
    name="main",
    title="Main table",
    about="Does AutoRefine learn to answer more questions than the other ways to train a policy "
    "that searches? Each arm has the protocol and the reward of its paper, the same scripted "
    "episodes to start from and the same number of rollouts to learn from. The single retrieval "
    "may search once; the direct answer has never seen a search.",
    arms=dict.fromkeys(ARMS, (AS_TRAINED, BEFORE)),
    find=find,
    draw=draw,
)
