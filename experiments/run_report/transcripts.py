"""A few episodes of the best and the worst run, as a reader of the report sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from experiments.pages import TRANSCRIPT, fenced
from experiments.run_report.runs import HELD_OUT, TrainingRun
from refine_env.render import render_ansi
from refine_env.rewards import RewardFn
from refine_env.rewards import get as get_reward
from refine_env.serialization import load_episodes

EPISODES = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """Episodes of a run."""

    heading: str
    episodes: tuple[tuple[str, str], ...]
    """Line that stands for it while it is closed, and the episode as Markdown."""
    note: str = ""


def best_and_worst(runs: Sequence[TrainingRun], episodes: int = EPISODES) -> list[Shown]:
    """Episodes of the last step of the runs with the highest and the lowest last held-out reward,
    among those that have transcripts; without a held-out reward a run is neither.
    """
    scored = [
        (run.held_out[HELD_OUT], run)
        for run in runs
        if run.held_out is not None and run.last_transcripts() is not None
    ]
    if not scored:
        return []
    best = max(scored, key=lambda pair: pair[0])
    worst = min(scored, key=lambda pair: pair[0])
    if best[1] is worst[1]:
        return [_shown("", best[1], episodes)]
    return [_shown("Best: ", best[1], episodes), _shown("Worst: ", worst[1], episodes)]


def _shown(word: str, run: TrainingRun, episodes: int) -> Shown:
    path = run.last_transcripts()
    assert path is not None
    heading = f"{word}{run.name}, step {int(path.stem.removeprefix('step-'))}"
    reward_fn, notes = _reward(run)
    found = []
    try:
        for episode in islice(load_episodes(path), episodes):
            reward = reward_fn(episode).total
            text = render_ansi(episode, reward_fn, color=False)
            found.append(
                (f"{episode.question.text} · reward {reward:.3f}", fenced(text, TRANSCRIPT))
            )
    except (OSError, ValueError) as error:
        notes.append(f"The rest cannot be shown: {error}.")
    return Shown(heading, tuple(found), " ".join(notes))


def _reward(run: TrainingRun) -> tuple[RewardFn, list[str]]:
    """The run's reward; the default preset, and a note, where it is none that is known here."""
    options = (run.settings or {}).get("env_options") or {}
    spec = options.get("reward") if isinstance(options, dict) else None
    spec = spec or run.facts.get("reward", "autorefine")
    try:
        return get_reward(spec), []
    except (TypeError, ValueError, KeyError):
        note = f"Rewards here are those of autorefine: {spec!r} is no preset."
        return get_reward("autorefine"), [note]
