"""The test of a policy under a condition: its episodes, and what was measured of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.base import Agent, run_episodes
from agents.context import shown
from agents.distributed import gathered, is_main, local_rank, share
from agents.factory import make_agent
from agents.held_out import HeldOut
from agents.models import load_policy, load_tokenizer, placement
from agents.rollout import Codec
from experiments.inputs import dataset_of, input_errors
from experiments.reproduction.arms import Arm, Condition
from experiments.reproduction.scales import QuestionSet, Scale
from experiments.train_config import TrainConfig
from refine_env.datasets.catalog import MINIWIKI
from refine_env.files import write_whole
from refine_env.rewards import episode_scores
from refine_env.serialization import save_episodes
from refine_env.types import Episode, Transcript

SCORES, EPISODES = "scores.json", "episodes.jsonl"

Player = Callable[[HeldOut], list[Episode]]
"""Runs a policy on questions; every process calls it and gets all episodes."""


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """What is tested, and how."""

    arm: Arm
    scale: Scale
    config: TrainConfig
    """Of the policy's training."""
    condition: Condition

    def write(self, folder: Path, trained: Path) -> None:
        """Run the policy on the test sets; write episodes and scores into `folder`, scores last.
        `trained` is the trained policy; an arm that is not trained, and the condition of before
        training, take the one that training starts from. Under torchrun all processes take part.
        """
        start = self.condition.before or self.scale.prompts(self.arm)
        policy = self.config.policy_path if start else str(trained)
        codec = Codec(load_tokenizer(policy))
        sets = [self._held_out(test) for test in self.scale.tested_on(self.condition)]
        play = self._player(policy, codec, sets[0])
        played = [(held_out, play(held_out)) for held_out in sets]
        if is_main():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / EPISODES).unlink(missing_ok=True)
            save_episodes(folder / EPISODES, [one for _, episodes in played for one in episodes])
            rows = [
                measure(held_out, codec, self.condition, episode)
                for held_out, episodes in played
                for episode in episodes
            ]
            write_whole(folder / SCORES, json.dumps(_columns(rows)) + "\n")

    def _held_out(self, test: QuestionSet) -> HeldOut:
        options = {**self.scale.options(self.arm, self.condition), **test.env_options}
        if dataset_of(test.env) != MINIWIKI:
            options.pop("noise", None)
        tested = replace(self.config, env=test.env, env_options=options)
        with input_errors():
            return tested.held_out(test.split, test.questions)

    def _player(self, policy: str, codec: Codec, first: HeldOut) -> Player:
        """With the documents in its context a policy continues its own tokens, as in training; an
        agent reads every turn's prompt anew.
        """
        device, dtype = placement(gpu=local_rank())
        prompted = self.scale.prompts(self.arm)
        if not prompted and self.condition.context == "full":
            model, _ = load_policy(policy, device=device, dtype=dtype)
            return lambda held_out: held_out.run(model, codec)
        name = f"hf:{policy}"
        agent = make_agent(
            f"{self.arm.untrained}+{name}" if prompted else name,
            first.components,
            options={
                "max_tokens": self.scale.turn_tokens,
                "places": first.places,
                "device": str(device),
            },
        )
        return partial(_by_agent, agent, self.condition)


def _by_agent(agent: Agent, condition: Condition, held_out: HeldOut) -> list[Episode]:
    return gathered(
        run_episodes(
            held_out.components,
            agent,
            share(held_out.questions),
            batch_size=held_out.places,
            context=condition.context,
        )
    )


def measure(
    held_out: HeldOut, codec: Codec, condition: Condition, episode: Episode
) -> dict[str, Any]:
    """The reward and the metrics of an episode, and its lengths in tokens of the policy.

    `tokens/read` is the longest prompt that the policy was given, `tokens/documents` what the
    searches brought, `tokens/refine` and `tokens/answer` what it wrote of either.
    """
    searched = [turn for turn in episode.turns if turn.kind == "search"]
    parts = episode_scores(episode)
    return {
        "id": episode.question.id,
        "dataset": episode.question.dataset,
        "hops": episode.question.hops,
        **held_out.measure(episode),
        **{name: parts[name] for name in ("refine_hit", "refine_hit_official")},
        "tokens/read": float(_longest_prompt(codec, condition, episode)),
        "tokens/documents": float(sum(codec.count(turn.observation) for turn in searched)),
        "tokens/refine": float(sum(codec.count(t.refine) for t in episode.turns if t.refine)),
        "tokens/answer": float(codec.count(episode.answer or "")),
    }


def _longest_prompt(codec: Codec, condition: Condition, episode: Episode) -> int:
    """Tokens of the longest prompt among those of an episode's turns."""
    segments = episode.transcript.segments
    turns = [place for place, segment in enumerate(segments) if segment.source == "policy"]
    prompts = [Transcript(segments[:place]) for place in turns]
    read = [shown(prompt, episode.protocol, condition.context) for prompt in prompts]
    return max((len(codec.encode_transcript(prompt)[0]) for prompt in read), default=0)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name -> a value for each episode; None where it has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
