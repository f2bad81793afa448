"""Scales at which a run takes seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.reproduction.scales import FULL, MINI, QuestionSet, Scale, TinyModel

assert MINI.warm_start is not None
SMALLEST = replace(
    MINI,
    overrides=(
        *MINI.overrides,
        "held_out_questions=3",
        "grpo.steps=1",
        "grpo.questions_per_step=1",
        "grpo.rollouts_per_question=2",
        "grpo.micro_batch=2",
        "grpo.turn_tokens=8",
    ),
    tests=(QuestionSet(env="AutoRefine-MiniWiki-v0", questions=4),),
    warm_start=replace(
        MINI.warm_start,
        sizes={"usual": TinyModel(layers=1, hidden=32)},
        copy_steps=2,
        reading_steps=2,
        reading_worlds=(2,),
        episode_steps=2,
        worlds=(1,),
    ),
    turn_tokens=8,
)


def like_full(policy: Path | str) -> Scale:
    """A scale like the full one, without warm start and with a launcher, of a small policy."""
    return replace(
        FULL,
        name="stand-in",
        config=MINI.config,
        overrides=(*SMALLEST.overrides, "grpo.micro_batch=1"),
        env_options={"max_turns": 3},
        tests=SMALLEST.tests,
        noisy_test=QuestionSet(env="miniwiki", questions=2),
        policies={"usual": str(policy)},
        launch=("launcher", "--processes", "8"),
        turn_tokens=8,
    )
