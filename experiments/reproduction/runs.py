"""One run: train an arm with a seed, test it under conditions, and keep what was measured."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.base import run_episodes
from agents.context import shown
from agents.distributed import is_main
from agents.factory import make_agent
from agents.held_out import HeldOut
from agents.models import load_policy
from agents.rollout import Codec
from agents.tracking import code_version
from experiments.evaluation.config import differences
from experiments.inputs import InputError, dataset_of, input_errors
from experiments.reproduction.arms import ARMS, CONDITIONS, Arm, Condition, Run
from experiments.reproduction.scales import QuestionSet, Scale
from experiments.reproduction.warm_starts import Imitator
from experiments.train import train
from experiments.train_config import TrainConfig, load_config
from refine_env.datasets.catalog import MINIWIKI
from refine_env.files import write_whole
from refine_env.rewards import episode_scores
from refine_env.serialization import save_episodes
from refine_env.types import Episode, Transcript

logger = logging.getLogger(__name__)

SETTINGS, SCORES, EPISODES = "run-settings.json", "scores.json", "episodes.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of a scale lie."""

    scale: Scale
    root: Path

    def run(self, run: Run) -> Path:
        return self.root / "runs" / run.arm / f"seed-{run.seed}"

    def tested(self, run: Run, condition: Condition) -> Path:
        return self.run(run) / "tests" / condition.name

    def cost(self, name: str) -> Path:
        """The file that says what a piece of work took."""
        return self.root / "costs" / f"{name}.json"

    def is_trained(self, run: Run) -> bool:
        return (self.run(run) / "policy").is_dir()

    def is_tested(self, run: Run, condition: Condition) -> bool:
        return (self.tested(run, condition) / SCORES).is_file()


def imitator_of(arm: Arm, seed: int) -> Imitator:
    """The warm start of a run."""
    return Imitator(arm.demonstrator, arm.size, seed)


def train_config(place: Place, run: Run) -> TrainConfig:
    """The settings of a run's training. Raises `InputError` for an arm that there is not."""
    if run.arm not in ARMS:
        raise InputError(f"there is no arm {run.arm!r}; known: {', '.join(ARMS)}")
    arm, scale = ARMS[run.arm], place.scale
    if scale.warm_start is not None:
        policy = str(imitator_of(arm, run.seed).folder(place.root))
    else:
        policy = scale.policies[arm.size]
    config = load_config(
        Path(scale.config[arm.demonstrator.protocol]),
        [
            *scale.overrides,
            f"policy={policy}",
            f"output={place.run(run)}",
            f"grpo.seed={run.seed}",
            "resume=auto",
        ],
    )
    return replace(config, env_options={**config.env_options, **scale.options(arm)})


def perform(place: Place, run: Run, conditions: Iterable[Condition]) -> None:
    """Train and test what is not done yet. Under torchrun all processes take part.

    Raises `InputError` where the folder holds a run of other settings.
    """
    config = train_config(place, run)
    arm = ARMS[run.arm]
    if place.scale.warm_start is None and arm.untrained:
        _check_settings(place, run, config)
    elif not place.is_trained(run):
        _check_settings(place, run, config)
        train(config)
        if is_main():
            shutil.rmtree(place.run(run) / "checkpoints", ignore_errors=True)
    for condition in conditions:
        if not place.is_tested(run, condition):
            _test(place, run, config, condition)


def _check_settings(place: Place, run: Run, config: TrainConfig) -> None:
    """Note the settings of a run, or compare them with those that it was begun with."""
    folder = place.run(run)
    told = json.loads(json.dumps({**config.plain(), "commit": None}, default=str))
    path = folder / SETTINGS
    if path.is_file():
        there = {**json.loads(path.read_text(encoding="utf-8")), "commit": None}
        if there != told:
            raise InputError(
                f"{folder} was begun with other settings ({'; '.join(differences(there, told))}): "
                "remove it, or name another --runs"
            )
        return
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**told, "commit": code_version()}, indent=1) + "\n")


def _test(place: Place, run: Run, config: TrainConfig, condition: Condition) -> None:
    """Run a policy on the test sets of a condition; write its episodes and what was measured."""
    arm, scale = ARMS[run.arm], place.scale
    untrained = condition.before or (scale.warm_start is None and arm.untrained)
    policy = config.policy_path if untrained else str(place.run(run) / "policy")
    model, tokenizer = load_policy(policy)
    codec = Codec(tokenizer)
    episodes: list[Episode] = []
    rows: list[dict[str, Any]] = []
    for test in scale.tested_on(condition):
        held_out = _held_out(config, scale, arm, condition, test)
        if scale.warm_start is None and arm.untrained:
            found = _by_agent(held_out, f"{arm.untrained}+hf:{policy}", condition, scale)
        elif condition.context == "refined":
            found = _by_agent(held_out, f"hf:{policy}", condition, scale)
        else:
            found = held_out.run(model, codec)
        episodes += found
        rows += [measure(held_out, codec, condition, episode) for episode in found]
    if is_main():
        folder = place.tested(run, condition)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EPISODES).unlink(missing_ok=True)
        save_episodes(folder / EPISODES, episodes)
        write_whole(folder / SCORES, json.dumps(_columns(rows)) + "\n")


def _held_out(
    config: TrainConfig, scale: Scale, arm: Arm, condition: Condition, test: QuestionSet
) -> HeldOut:
    options = {**scale.options(arm, condition), **test.env_options}
    if dataset_of(test.env) != MINIWIKI:
        options.pop("noise", None)
    tested = replace(config, env=test.env, env_options=options)
    with input_errors():
        return tested.held_out(test.split, test.questions)


def _by_agent(held_out: HeldOut, agent: str, condition: Condition, scale: Scale) -> list[Episode]:
    """Episodes of an agent, which reads every turn's prompt anew."""
    made = make_agent(
        agent,
        held_out.components,
        options={"max_tokens": scale.turn_tokens, "places": held_out.places},
    )
    return run_episodes(
        held_out.components,
        made,
        held_out.questions,
        batch_size=held_out.places,
        context=condition.context,
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


def condition_of(name: str) -> Condition:
    """The condition of a name. Raises `InputError` for one that there is not."""
    if name not in CONDITIONS:
        raise InputError(f"there is no condition {name!r}; known: {', '.join(CONDITIONS)}")
    return CONDITIONS[name]
