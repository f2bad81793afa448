"""A million steps of the vector environment with BM25: memory, handles, threads, time a step.

    OMP_NUM_THREADS=1 python -m tests.faults.long_episodes --steps 1000000 --folder /tmp/episodes

A step is one turn in one place of `gym.make_vec("AutoRefine-MiniWiki-v0")`; the steps in which an
episode starts anew are not counted. The policy searches, refines and answers, and now and then does
not. No two of its turns are equal, so that whatever is kept of texts seen before has to be bounded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
from tqdm import tqdm

import refine_env  # noqa: F401  (registers the environments)
from refine_env import AutoRefineVectorEnv
from tests.faults.long_flatness import draw, judge
from tests.faults.long_watch import Reading, read_tree, save

ENVIRONMENT = "AutoRefine-MiniWiki-v0"
PLACES = 64
READINGS = 400
"""How often a run of any length is read."""
_STARTS = ("Which", "Who", "When", "The", "In", "Of", "And")


class NeverTheSame:
    """A policy that asks for words of what it reads and for words that nobody wrote before.

    Of ten turns about six search, three answer and one is none; after a search all of them refine.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._turns = 0

    def turn(self, observation: str) -> str:
        """One turn on what the environment said last."""
        self._turns += 1
        words = observation.split()[-120:] or list(_STARTS)
        drawn = " ".join(self._rng.choices(words, k=4)).replace("<", "").replace(">", "")
        new = f"w{self._turns}x{self._rng.randrange(10**6)}"
        refine = f"<refine> {drawn} {new} </refine>" if "<documents>" in observation else ""
        kind = self._rng.random()
        if kind < 0.1:
            return f"{drawn} {new}"
        if kind < 0.7:
            return f"{refine} <think> {new} </think> <search> {drawn} {new} </search>"
        return f"{refine} <answer> {drawn} {new} </answer>"


def run(
    steps: int,
    every: int,
    *,
    seed: int = 0,
    on_reading: Callable[[Reading], None] = lambda reading: None,
    **options: Any,
) -> list[Reading]:
    """Take `steps` steps and read this process after each `every` of them.

    The processor time is that of the environment alone, the policy's left out. `options` go to the
    environment.
    """
    envs = gym.make_vec(ENVIRONMENT, num_envs=PLACES, **options)
    assert isinstance(envs, AutoRefineVectorEnv)
    policies = [NeverTheSame(seed + place) for place in range(PLACES)]
    observations, _ = envs.reset(seed=seed)
    over = [False] * PLACES
    done, processor, began = 0, 0.0, time.monotonic()
    readings: list[Reading] = []
    while done < steps:
        actions = _turns(policies, observations)
        done += over.count(False)
        before = time.process_time()
        observations, _, terminated, truncated, _ = envs.step(actions)
        processor += time.process_time() - before
        over = (terminated | truncated).tolist()
        if done >= (len(readings) + 1) * every:
            seconds = time.monotonic() - began
            reading = read_tree(os.getpid(), seconds=seconds, work=done, processor=processor)
            assert reading is not None
            readings.append(reading)
            on_reading(reading)
    envs.close()
    return readings


def _turns(policies: Sequence[NeverTheSame], observations: Sequence[str]) -> list[str]:
    return [policy.turn(text) for policy, text in zip(policies, observations, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="for readings and picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=json.loads, default={}, help="of the environment, JSON")
    arguments = parser.parse_args()
    bar = tqdm(total=arguments.steps, unit=" steps", unit_scale=True, mininterval=10)

    def show(reading: Reading) -> None:
        bar.set_postfix(MB=reading.resident >> 20, refresh=False)
        bar.update(reading.work - bar.n)

    with bar:
        readings = run(
            arguments.steps,
            max(1, arguments.steps // READINGS),
            seed=arguments.seed,
            on_reading=show,
            **arguments.options,
        )
    flatness = judge(readings)
    save(arguments.folder / "long_episodes.json", readings, {"judged": asdict(flatness)})
    draw(readings, flatness, arguments.folder / "long_episodes.png", "steps of the environment")
    print(flatness.told())


if __name__ == "__main__":
    main()
