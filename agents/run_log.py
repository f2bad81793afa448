"""What a training run tells of its steps, and its evaluations on held-out questions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from agents.best_policy import BestPolicy, read_best
from agents.engines.base import GREEDY, Engine
from agents.grpo.step_metrics import in_our_names
from agents.held_out import HeldOut
from agents.rollout import Codec, Rollout
from agents.tracking import METRICS, Tracker, read_metrics
from refine_env.files import write_whole
from refine_env.metrics import Estimate
from refine_env.rewards import RewardFn
from refine_env.types import Episode

_HELD_OUT_BY_GROUP = ("reward", "em", "f1", "searches", "search_success", "refine_success")
"""Held-out figures that are told of each dataset and hop count, too."""


class RunLog(TrainerCallback):
    """Tells a tracker of every step, evaluates now and then, and keeps the best policy.

    Every optimiser step gives one line of metrics and some transcripts; every `held_out_every`
    steps, and at the end, the policy is also run greedily on held-out questions (`held_out/*`) and
    offered to `best`. Where `reward` is given, some transcripts are shown with it in W&B, at the
    first step and every `held_out_every`. `on_metrics` is called with (step, metrics) of each
    line. Of several processes the main one has the tracker; all of them evaluate, each its share.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        *,
        codec: Codec,
        held_out: HeldOut | None = None,
        held_out_every: int = 10,
        transcripts_per_step: int = 4,
        reward: RewardFn | None = None,
        on_metrics: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        self.tracker = tracker
        self.codec = codec
        self.held_out = held_out
        self.held_out_every = held_out_every
        self.transcripts_per_step = transcripts_per_step
        self.reward = reward
        self.best: BestPolicy | None = None
        self.on_metrics = on_metrics
        self.engine: Callable[..., AbstractContextManager[Engine]] | None = None
        """Opens what the policy generates with, for stop strings, sampling and places; None: the
        model that the trainer passes."""
        self._step = _StepTimes()
        self._started = time.monotonic()
        self._paused = 0.0
        self._earlier = 0.0  # seconds of the run that this one resumes

    def observe(self, step: int, rollouts: list[Rollout]) -> None:
        """Keep the first transcripts of a batch; an observer of `RolloutSource`."""
        self._step.rolled_out(rollouts)
        if self.tracker is None:
            return
        shown = rollouts[: self.transcripts_per_step]
        self.tracker.transcripts(step + 1, shown)
        due = step == 0 or (step + 1) % self.held_out_every == 0
        if self.reward is not None and due:
            self.tracker.show(step + 1, shown, self.reward)

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Tell a line; numbers that are not finite are left out (JSON has none)."""
        if self.tracker is None:
            return
        kept = {
            name: float(value)
            for name, value in sorted(metrics.items())
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self.tracker.metrics(step, {"seconds": round(self.training_seconds, 3), **kept})
        if self.on_metrics is not None:
            self.on_metrics(step, kept)

    @property
    def training_seconds(self) -> float:
        """Wall time since the start, held-out evaluation and interruptions left out."""
        return self._earlier + time.monotonic() - self._started - self._paused

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started, self._paused = time.monotonic(), 0.0
        if state.global_step and self.tracker is not None:
            self._resume_at(self.tracker, state.global_step)
        if not state.global_step:
            self.evaluate(0, kwargs["model"])

    def _resume_at(self, tracker: Tracker, step: int) -> None:
        """Drop the lines and transcripts of steps that are now run again, and half a line."""
        path = tracker.folder / METRICS
        if path.is_file():
            rows = [row for row in read_metrics(tracker.folder) if row["step"] <= step]
            write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
            self._earlier = rows[-1]["seconds"] if rows else 0.0
        for file in (tracker.folder / "transcripts").glob("step-*.jsonl"):
            number = file.stem.removeprefix("step-")
            if number.isdecimal() and int(number) > step:  # others are somebody's own
                file.unlink()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step = _StepTimes()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step.ended()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """After each step, before its checkpoint: so a resumed run has the lines of its past."""
        state.log_history.clear()  # grows for ever, in memory and in checkpoints; nothing reads it
        if not logs or "reward" not in logs:  # the summary of the whole run
            return
        step, figures = state.global_step, in_our_names(logs)
        self.write(step, figures | self._step.figures(figures.get("seconds/generation")))
        last = step == state.max_steps or control.should_training_stop
        if last or step % self.held_out_every == 0:
            self.evaluate(step, kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.tracker is None:
            return
        best = None if self.best is None else read_best(self.best.folder)
        told = {} if best is None else {"best/step": best.step, "best/score": best.score}
        self.tracker.summary({"steps": state.global_step, **told})

    def _episodes(self, held_out: HeldOut, model: Any) -> list[Episode]:
        if self.engine is None:
            return held_out.run(model, self.codec)
        with self.engine(held_out.components.protocol.stop_strings, GREEDY, held_out.places) as own:
            return held_out.run_with(own, self.codec)

    def evaluate(self, step: int, model: Any) -> None:
        """Run the policy greedily on the held-out questions, write the means, keep the best."""
        if self.held_out is None:
            return
        started = time.monotonic()
        groups = self.held_out.estimates(self._episodes(self.held_out, model))
        seconds = time.monotonic() - started
        self._paused += seconds
        self.write(step, held_out_figures(groups) | {"seconds/held_out": seconds})
        if self.best is not None:
            started = time.monotonic()
            self.best.offer(step, groups["all"]["reward"])
            self._paused += time.monotonic() - started


class _StepTimes:
    """When things happened in a step."""

    def __init__(self) -> None:
        self._began = self._rolled_out = self._ended = time.perf_counter()
        self._policy_tokens = self._tokens = 0

    def rolled_out(self, rollouts: Sequence[Rollout]) -> None:
        self._rolled_out = time.perf_counter()
        self._policy_tokens = sum(sum(rollout.mask) for rollout in rollouts)
        self._tokens = sum(len(row.prompt_ids) + len(row.completion_ids) for row in rollouts)

    def ended(self) -> None:
        self._ended = time.perf_counter()

    def figures(self, generation: float | None) -> dict[str, float]:
        """Seconds, and tokens per second; `generation`: the seconds that it took."""
        update = self._ended - self._rolled_out
        figures = {"seconds/update": update, "seconds/step": self._ended - self._began}
        if update > 0:
            figures["tokens/updated_per_second"] = self._tokens / update
        if generation:
            figures["tokens/generated_per_second"] = self._policy_tokens / generation
        return figures


def held_out_figures(groups: Mapping[str, Mapping[str, Estimate]]) -> dict[str, float]:
    """The line of an evaluation: means of all, an interval of the reward, and means of groups."""
    everything = groups["all"]
    figures = {f"held_out/{name}": estimate.mean for name, estimate in everything.items()}
    reward = everything["reward"]
    figures |= {
        "held_out/reward_low": reward.low,
        "held_out/reward_high": reward.high,
        "held_out/questions": float(reward.n),
    }
    for group, estimates in groups.items():
        if group != "all":
            for name in _HELD_OUT_BY_GROUP:
                figures[f"held_out/{name}/{group}"] = estimates[name].mean
    return figures
