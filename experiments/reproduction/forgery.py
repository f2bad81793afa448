"""What agents that copy, forge and list earn: every scripted adversary under every reward preset,
and under the published scoring, which reads one string; honest scripted agents beside them.

Nothing is trained. All agents meet the same questions, so that each adversary is compared with
single search question by question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.base import run_episodes
from agents.factory import make_agent
from experiments.evaluate import choose_questions
from experiments.inputs import InputError, make_environment
from experiments.pages import code, markdown_table, save_figure
from experiments.reproduction.published import published_reward
from refine_env.config import Components, open_data
from refine_env.files import write_whole
from refine_env.metrics import bootstrap_mean, episode_metrics
from refine_env.protocols import get_protocol
from refine_env.rewards import PRESETS, get
from refine_env.types import Document, Episode, Question

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "forgery.json"
QUESTIONS = 500
ADVERSARIES = (
    "document-copier", "refine-everything", "substring-spammer", "tag-forger", "candidate-lister",
)  # fmt: skip
FIXED_POINTS = ("oracle", "single-search", "closed-book")
"""Agents that do what the reward is meant to pay for, as far as they can."""
HONEST = "single-search"
"""What an adversary has to beat for its trick to be worth it."""
PUBLISHED = "published"
"""The scoring of the published code, beside the names of presets."""
SCORINGS = (*PRESETS, PUBLISHED)
OWN_PROTOCOL = {"research": "research"}
"""Scorings that read an answer as only their protocol writes it; the others are given autorefine's
episodes. In its own protocol an agent's notes have no tag."""
METRICS = ("em", "f1", "cover_em", "refine_success", "refine_grounded", "refine_copied")
ENVIRONMENT: Mapping[str, Any] = {
    "level": "full", "split": "test", "world_seed": 0, "max_turns": 6, "retriever": "bm25",
    "top_k": 3,
}  # fmt: skip

Column = NDArray[np.float64]
"""[Q]: a value for each question."""


def measure(
    questions: int = QUESTIONS, seed: int = 0, *, environment: Mapping[str, Any] = ENVIRONMENT
) -> dict[str, Any]:
    """Means with bootstrap intervals, as JSON has them: for each agent and group of questions the
    rewards, what they are above those of single search, and metrics.

    `seed` draws the questions. `environment` has the arguments of a MiniWiki.
    Raises `InputError` for a negative seed and for more questions than there are.
    """
    if seed < 0:
        raise InputError(f"the seed must be 0 or more, got {seed}")
    env = make_environment("miniwiki", environment)
    asked = choose_questions(env.questions, questions, seed)
    corpus, groups = open_data(env.config).corpus, _groups(asked)
    columns = {
        agent: _columns(agent, env.components, asked, list(corpus) if agent == "oracle" else [])
        for agent in (*ADVERSARIES, *FIXED_POINTS)
    }
    return {
        **_settings(questions, seed, environment),
        "questions": {group: len(places) for group, places in groups.items()},
        "agents": {
            agent: {
                group: _estimates(columns[agent], columns[HONEST], places)
                for group, places in groups.items()
            }
            for agent in columns
        },
    }


def _settings(
    questions: int = QUESTIONS, seed: int = 0, environment: Mapping[str, Any] = ENVIRONMENT
) -> dict[str, Any]:
    return {
        "environment": dict(environment),
        "asked": questions,
        "seed": seed,
        "adversaries": list(ADVERSARIES),
        "honest": HONEST,
        "scorings": {name: OWN_PROTOCOL.get(name, "autorefine") for name in SCORINGS},
    }


def _groups(questions: Sequence[Question]) -> dict[str, list[int]]:
    """The places of all questions, and of each kind that is there."""
    closed = [question.type == "yes_no" for question in questions]
    places = {
        "all": list(range(len(questions))),
        "span": [place for place, is_closed in enumerate(closed) if not is_closed],
        "yes/no": [place for place, is_closed in enumerate(closed) if is_closed],
    }
    return {group: found for group, found in places.items() if found}


def _columns(
    agent: str,
    components: Components,
    questions: Sequence[Question],
    documents: Sequence[Document],
) -> dict[str, Column]:
    """Every scoring and metric of an agent on every question, an episode for each protocol."""
    episodes: dict[str, list[Episode]] = {}
    for protocol in ("autorefine", *OWN_PROTOCOL.values()):
        played = replace(components, protocol=get_protocol(protocol))
        episodes[protocol] = run_episodes(played, make_agent(agent, played, documents), questions)
    scored = {
        name: [_score(name)(episode) for episode in episodes[OWN_PROTOCOL.get(name, "autorefine")]]
        for name in SCORINGS
    }
    metrics = [episode_metrics(episode) for episode in episodes["autorefine"]]
    measured = {f"metric/{name}": [row[name] for row in metrics] for name in METRICS}
    return {name: np.array(values, float) for name, values in (scored | measured).items()}


def _score(scoring: str) -> Callable[[Episode], float]:
    if scoring == PUBLISHED:
        return published_reward
    reward = get(scoring)
    return lambda episode: reward(episode).total


def _estimates(
    columns: Mapping[str, Column], honest: Mapping[str, Column], places: Sequence[int]
) -> dict[str, dict[str, Any]]:
    def estimate(values: Column) -> dict[str, Any]:
        return asdict(bootstrap_mean(values[places].tolist()))

    return {
        "rewards": {name: estimate(columns[name]) for name in SCORINGS},
        "above_honest": {name: estimate(columns[name] - honest[name]) for name in SCORINGS},
        "metrics": {name: estimate(columns[f"metric/{name}"]) for name in METRICS},
    }


def kept(root: Path) -> dict[str, Any]:
    """What `measure` gives, from `root` where it is there with the same settings; else measured
    now and left there.

    What was measured before an agent or a reward was changed is not told apart: remove the file.
    Raises `InputError` for a damaged file.
    """
    path = root / FILE
    found = _read(path) if path.is_file() else {}
    if all(found.get(name) == value for name, value in _settings().items()):
        return found
    data = measure()
    root.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return data


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}; remove it to measure anew") from error
    return found


def plot(data: Mapping[str, Any], path: Path) -> list[Path]:
    """Write what `draw` draws as PNG and SVG; `path` is without its end."""
    from matplotlib.figure import Figure

    panels, rows = len(_kinds(data)), len(data["agents"])
    figure = Figure(figsize=(2.2 + 5.3 * panels, 1.9 + 0.42 * rows), layout="constrained")
    draw(data, figure)
    return save_figure(figure, path)


def draw(data: Mapping[str, Any], figure: Figure) -> None:
    """The mean rewards of every agent under every scoring, a panel for each kind of question."""
    from matplotlib.colors import PowerNorm

    agents, scorings, kinds = list(data["agents"]), list(data["scorings"]), _kinds(data)
    norm = PowerNorm(0.5, 0.0, 1.1)  # as fine for the small rewards of tricks as for right answers
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        rewards = [data["agents"][agent][kind]["rewards"] for agent in agents]
        means_AS = np.array([[found[name]["mean"] for name in scorings] for found in rewards])
        axes.imshow(means_AS, cmap="Blues", norm=norm, aspect="auto")
        for (row, column), mean in np.ndenumerate(means_AS):
            ink = "white" if norm(mean) > 0.6 else "black"
            axes.text(column, row, f"{mean:.2f}", ha="center", va="center", color=ink, fontsize=8)
        axes.axhline(len(data["adversaries"]) - 0.5, color="black", linewidth=1.2)
        axes.axvline(len(scorings) - 1.5, color="black", linewidth=1.2)
        axes.set_title(f"{kind} questions (n = {data['questions'][kind]})", fontsize=11)
        axes.set_xticks(range(len(scorings)), scorings, rotation=45, ha="right")
        axes.set_yticks(range(len(agents)), agents if axes.get_subplotspec().is_first_col() else [])
        axes.tick_params(length=0)
    figure.suptitle("Mean reward: adversaries above the line, honest agents below", fontsize=12)


def _kinds(data: Mapping[str, Any]) -> list[str]:
    return [kind for kind in data["questions"] if kind != "all"]


def section(data: Mapping[str, Any]) -> str:
    """Tables of all questions, and what they say, in Markdown."""
    scorings, agents = data["scorings"], data["agents"]
    rewards = markdown_table(
        ["agent", *map(code, scorings)],
        [
            [code(name), *(_shown(found["all"]["rewards"][scoring]) for scoring in scorings)]
            for name, found in agents.items()
        ],
    )
    metrics = markdown_table(
        ["agent", *(name.replace("_", " ") for name in METRICS)],
        [
            [code(name), *(_shown(found["all"]["metrics"][metric]) for metric in METRICS)]
            for name, found in agents.items()
        ],
    )
    kinds = [f"{data['questions'][kind]} {kind}" for kind in _kinds(data)]
    others = [f"{code(name)} in {own}'s" for name, own in scorings.items() if own != "autorefine"]
    told = "; ".join(["Every agent ran in autorefine's protocol", *others])
    opening = (
        f"{data['questions']['all']} questions ({', '.join(kinds)}). {told}. Means with bootstrap "
        f"95 % intervals. {code(PUBLISHED)} reads one string, as the published code does; the "
        "other columns are presets."
    )
    findings = " ".join([_most_paid(data), _tricks_that_pay(data), _string_scoring(data)])
    return "\n\n".join([opening, rewards, findings, metrics])


def _most_paid(data: Mapping[str, Any]) -> str:
    """Which preset pays which adversary most, on all questions."""

    def mean(scoring: str, agent: str) -> float:
        return float(data["agents"][agent]["all"]["rewards"][scoring]["mean"])

    presets = [name for name in data["scorings"] if name != PUBLISHED]
    pairs = [(preset, agent) for preset in presets for agent in data["adversaries"]]
    preset, agent = max(pairs, key=lambda pair: mean(*pair))
    return (
        f"The most that a preset pays an adversary is {mean(preset, agent):.3f}, {code(preset)} to "
        f"{code(agent)}; it pays {code(data['honest'])} {mean(preset, data['honest']):.3f}."
    )


def _tricks_that_pay(data: Mapping[str, Any]) -> str:
    """Under which scoring which adversary earns more than honest search, question by question."""
    paying, safe = [], []
    for scoring in data["scorings"]:
        above = {
            agent: data["agents"][agent]["all"]["above_honest"][scoring]
            for agent in data["adversaries"]
        }
        better = [f"{code(a)} (+{_shown(e)})" for a, e in above.items() if e["low"] > 0]
        if better:
            paying.append(f"under {code(scoring)} {' and '.join(better)}")
        else:
            safe.append(code(scoring))
    found = "; ".join(paying) or "none under any scoring"
    rest = f"; none under {', '.join(safe)}" if paying and safe else ""
    return (
        f"Adversaries that earn more than {code(data['honest'])}, by intervals of the paired "
        f"difference: {found}{rest}."
    )


def _string_scoring(data: Mapping[str, Any]) -> str:
    """Whom the published scoring pays more than `autorefine`, each where that is most."""
    told = []
    for agent in data["adversaries"]:
        means = {
            kind: {name: found["rewards"][name]["mean"] for name in SCORINGS}
            for kind, found in data["agents"][agent].items()
        }
        kind = max(means, key=lambda kind: means[kind][PUBLISHED] - means[kind]["autorefine"])
        found = means[kind]
        if found[PUBLISHED] > found["autorefine"]:
            told.append(
                f"{code(agent)} {found[PUBLISHED]:.3f} instead of {found['autorefine']:.3f} "
                f"({code('official')} {found['official']:.3f}; {kind} questions)"
            )
    return (
        f"The string scoring pays more than {code('autorefine')}, told for the questions where the "
        f"difference is largest: {'; '.join(told) or 'to no adversary'}."
    )


def _shown(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['mean']:.3f} [{estimate['low']:.3f}–{estimate['high']:.3f}]"
