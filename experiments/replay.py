"""Recordings of other programs as a run: cut into episodes, scored, ready to view and compare."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from experiments.inputs import InputError, input_errors
from refine_env.files import write_whole
from refine_env.metrics import Estimate, aggregate, episode_metrics
from refine_env.replay import Answer, invented_blocks, load_recordings
from refine_env.serialization import EPISODE_FILES, save_episodes
from refine_env.types import Episode

EPISODES = EPISODE_FILES[1]
RESULTS = "results.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """What is read and where the run is written."""

    file: Path
    """JSON or JSONL of FlashRAG's Search-R1 results, or of rollouts with known authors."""
    output: Path
    """Folder of the run; it must hold no results yet."""
    answer: Answer = "last"
    """The answer that counts: recorded scores use the last, live episodes end at the first."""
    dataset: str | None = None
    """The questions' dataset; None takes it from the file's name."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it."""

    episodes: int
    searches: int
    invented: int
    """Episodes in which the policy made up a block of documents."""
    compared: int
    """Episodes that have a recorded exact match."""
    agreeing: int
    """Those of them in which the exact match worked out here equals it."""
    estimates: dict[str, Estimate]


def run(config: ReplayConfig, console: Console | None = None) -> Replayed:
    """Write `episodes.jsonl.gz` and `results.json`, and say how the recorded scores compare.

    Raises `InputError` for a file that is no recording and for a folder that is in use.
    """
    console = console or Console()
    if not config.file.is_file():
        raise InputError(f"there is no file {config.file}")
    for name in (*EPISODE_FILES, RESULTS):
        if (config.output / name).exists():
            raise InputError(f"{config.output} holds {name} already: name another --output")
    counts: Counter[str] = Counter()
    rows: list[dict[str, float]] = []

    def measured(episode: Episode) -> Episode:
        metrics = episode_metrics(episode)
        rows.append(metrics)
        counts["searches"] += episode.num_searches
        counts["invented"] += invented_blocks(episode) > 0
        recorded = episode.question.metadata["recorded"].get("em")
        if recorded is not None:
            counts["compared"] += 1
            counts["agreeing"] += recorded == metrics["em"]
        return episode

    with input_errors():
        episodes = load_recordings(config.file, answer=config.answer, dataset=config.dataset)
        number = save_episodes(config.output / EPISODES, map(measured, episodes))
    replayed = Replayed(
        episodes=number,
        searches=counts["searches"],
        invented=counts["invented"],
        compared=counts["compared"],
        agreeing=counts["agreeing"],
        estimates=aggregate(rows),
    )
    _write(config, replayed)
    _report(config, replayed, console)
    return replayed


def _write(config: ReplayConfig, replayed: Replayed) -> None:
    settings: dict[str, Any] = {"agent": f"recorded: {config.file.name}"} | asdict(config)
    data = {"config": settings, "replay": asdict(replayed)}
    text = json.dumps(data, indent=1, default=str, ensure_ascii=False)
    write_whole(config.output / RESULTS, text + "\n")


def _report(config: ReplayConfig, replayed: Replayed, console: Console) -> None:
    def say(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    say(
        f"Episodes: {replayed.episodes:,}, searches: {replayed.searches:,}; in "
        f"{replayed.invented:,} the policy made up documents, which count as its own words"
    )
    for name in ("em", "f1", "search_success"):
        if name in replayed.estimates:
            say(f"{name} {replayed.estimates[name]}")
    if replayed.compared:
        say(f"exact match as recorded in {replayed.agreeing:,} of {replayed.compared:,} episodes")
    say(f"Written to {config.output}: {EPISODES}, {RESULTS}")
    say(f"See it: refine-env view {config.output}")
