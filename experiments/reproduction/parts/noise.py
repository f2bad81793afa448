"""Near-namesakes in the corpus, at the test and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.reproduction.arms import AS_TRAINED, NOISES, Condition
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
from experiments.reproduction.statistics import difference_of_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLEAN = {"autorefine": "autorefine", "search_r1": "search_r1"}
NOISY = {"autorefine": "noise_2", "search_r1": "search_r1_noise_2"}
"""Protocol -> arm that was trained without noise, with it."""
TRAINED_WITH = 2.0
METRICS = ("em", "search_success")


def _tested(arm: str, noise: float) -> Condition:
    own = TRAINED_WITH if arm in NOISY.values() else 0.0
    return AS_TRAINED if noise == own else NOISES[noise]


def find(results: Results) -> Findings:
    """Exact match and search success at every noise."""
    arms = (*CLEAN.values(), *NOISY.values())
    means = {
        metric: {
            arm: [results.mean(arm, metric, "all", _tested(arm, noise)) for noise in NOISES]
            for arm in arms
        }
        for metric in METRICS
    }
    tables = tuple(
        Table(
            label,
            ("arm", *(f"{noise:g}" for noise in NOISES)),
            tuple((title(arm), *means[metric][arm]) for arm in arms),
            note=note,
        )
        for metric, label, note in (
            (
                "em",
                "Exact match, by near-namesakes of each document in the corpus of the test",
                "Noise n adds n documents for each that there is, on things with a third name in "
                "between. Trained with noise: 2.",
            ),
            ("search_success", "Search success", ""),
        )
    )
    most = max(NOISES)
    worst = {
        arm: (results.scores(arm, "em", "all", _tested(arm, 0.0)),
              results.scores(arm, "em", "all", _tested(arm, most)))
        for arm in CLEAN.values()
    }  # fmt: skip
    claims = (
        difference_claim(
            f"With {most:g} namesakes a document AutoRefine is ahead of Search-R1",
            "limits (no figures)",
            "refining filters what is beside the point",
            results.difference("autorefine", "search_r1", "em", "all", NOISES[most]),
        ),
        difference_claim(
            "Noise costs AutoRefine less than Search-R1",
            "limits (no figures)",
            "refining filters what is beside the point",
            difference_of_gains(worst["search_r1"], worst["autorefine"]),
        ),
        difference_claim(
            f"Training with noise helps AutoRefine at noise {TRAINED_WITH:g}",
            "asked here",
            "",
            results.difference(
                "noise_2", "autorefine", "em", "all", AS_TRAINED, NOISES[TRAINED_WITH]
            ),
        ),
    )
    return Findings(tables, claims, {"means": means, "noises": list(NOISES)})


def draw(findings: Findings, figure: Figure) -> None:
    """Exact match and search success over the noise."""
    panels = figure.subplots(1, 2, sharey=True)
    drawn = findings.drawn
    for axes, metric in zip(panels, METRICS, strict=True):
        for protocol in CLEAN:
            colour = COLOURS[protocol]
            for arm, style in ((CLEAN[protocol], "o-"), (NOISY[protocol], "s--")):
                points(
                    axes, drawn["noises"], drawn["means"][metric][arm], title(arm), colour, style
                )
        axes.set(xlabel="near-namesakes of each document, test", ylim=(0, 1))
        axes.set_title("exact match" if metric == "em" else "search success", fontsize="medium")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of test questions")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, loc="outside upper center", fontsize="small")


PART = Part(
    name="noise",
    title="Noise",
    about="What do documents on near-namesakes do to policies that read, and to those that refine "
    "first? The questions and their documents stay as they are.",
    arms={
        **dict.fromkeys(
            CLEAN.values(), (AS_TRAINED, *(NOISES[noise] for noise in NOISES if noise > 0))
        ),
        **dict.fromkeys(
            NOISY.values(),
            (AS_TRAINED, *(NOISES[noise] for noise in NOISES if noise != TRAINED_WITH)),
        ),
    },
    find=find,
    draw=draw,
    size=(10.0, 4.4),
)
