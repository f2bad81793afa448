"""The episodes that are played everywhere at once, and how they are written down to be compared."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import gymnasium as gym

from agents.scripted import RandomAgent
from refine_env import AutoRefineEnv, AutoRefineVectorEnv
from refine_env.types import Episode

Record: TypeAlias = str
"""An episode: its question's id, its text by author, its documents' ids, rewards, last info."""

_AGENT = RandomAgent(seed=7)
"""What it writes hangs on every letter that it has read, so one difference makes many."""
_OVER = "<answer> over </answer>"
"""For a place whose episode has ended."""
_SEARCH = "<search> a stadium </search>"


def make(spec: str) -> AutoRefineEnv:
    """An environment of its own; equal indexes are shared within a process."""
    return AutoRefineEnv(dataset="miniwiki", split="dev", retriever=spec)


def play(spec: str, seeds: Sequence[int]) -> list[Record]:
    """The episode of each seed, one after another."""
    env = make(spec)
    records = []
    for seed in seeds:
        env.reset(seed=seed)
        rewards: list[float] = []
        info: dict[str, Any] = {}
        over = False
        while not over:
            (action,) = _AGENT.act([env.episode.transcript])
            _, reward, terminated, truncated, info = env.step(action)
            rewards.append(float(reward))
            over = terminated or truncated
        records.append(record(env.episode, rewards, info))
    return records


def play_side_by_side(kind: str, spec: str, seeds: Sequence[int], places: int = 4) -> list[Record]:
    """The episodes in a vector environment: `ours`, `sync`, or the start method of `async`."""
    envs: Any
    if kind == "ours":
        envs = AutoRefineVectorEnv(places, dataset="miniwiki", split="dev", retriever=spec)
    elif kind == "sync":
        envs = gym.vector.SyncVectorEnv([functools.partial(make, spec)] * places)
    else:
        makers = [functools.partial(make, spec)] * places
        envs = gym.vector.AsyncVectorEnv(makers, context=kind, shared_memory=False)
    records: list[Record] = []
    try:
        for start in range(0, len(seeds), places):
            now = [*seeds[start : start + places], *seeds[:places]][:places]
            records += _play_round(envs, now)
    finally:
        envs.close()
    return records[: len(seeds)]


def _play_round(envs: Any, seeds: Sequence[int]) -> list[Record]:
    """The episode of each seed, one in each place.

    A place starts another episode when the one of its seed is over; that is not looked at.
    """
    envs.reset(seed=list(seeds))
    rewards: list[list[float]] = [[] for _ in seeds]
    records: dict[int, Record] = {}
    while len(records) < len(seeds):
        said = _AGENT.act([episode.transcript for episode in _episodes(envs)])
        actions = [_OVER if place in records else action for place, action in enumerate(said)]
        _, reward, terminated, truncated, infos = envs.step(actions)
        for place, episode in enumerate(_episodes(envs)):
            if place in records:
                continue
            rewards[place].append(float(reward[place]))
            if terminated[place] or truncated[place]:
                info = {name: infos[name][place] for name in infos if not name.startswith("_")}
                records[place] = record(episode, rewards[place], info)
    while (terminated | truncated).any():
        # Gymnasium 1.4's AsyncVectorEnv without shared memory forgets a reset in a place whose
        # episode ended in the step before: it starts another one in the next step.
        _, _, terminated, truncated, _ = envs.step([_SEARCH] * len(seeds))
    return [records[place] for place in range(len(seeds))]


def _episodes(envs: Any) -> Sequence[Episode]:
    """The current one of each place."""
    if isinstance(envs, AutoRefineVectorEnv):
        return envs.episodes
    return cast(Sequence[Episode], envs.get_attr("episode"))


def record(episode: Episode, rewards: Sequence[float], info: dict[str, Any]) -> Record:
    """An episode with nothing left out that could differ, as text."""
    return json.dumps(
        {
            "question": episode.question.id,
            "segments": [[part.source, part.text] for part in episode.transcript.segments],
            "documents": [[document.id for document in turn.documents] for turn in episode.turns],
            "rewards": [reward.hex() for reward in rewards],
            "info": {name: _plain(info[name]) for name in sorted(info)},
        },
        ensure_ascii=False,
    )


def _plain(value: Any) -> str:
    return float(value).hex() if isinstance(value, float) else str(value)
