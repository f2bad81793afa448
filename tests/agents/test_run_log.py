"""What a run tells of its steps: lines of metrics, held-out evaluations, transcripts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from agents.held_out import HeldOut, choose, warn_of_overlap
from agents.rollout import Codec, Rollout, TokenLimits
from agents.run_log import RunLog
from agents.tracking import Tracker, read_metrics
from refine_env import Question
from refine_env.config import Components
from refine_env.serialization import load_episodes
from tests.policies import random_model, word_tokenizer

TOKENIZER = word_tokenizer()


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(Tracker(tmp_path), codec=Codec(TOKENIZER))


def lines(log: RunLog) -> list[dict[str, float]]:
    assert log.tracker is not None
    return read_metrics(log.tracker.folder)


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path / "trainer"), use_cpu=True, report_to="none")


def state(step: int, last: int = 100) -> TrainerState:
    return TrainerState(global_step=step, max_steps=last)


def test_lines_hold_finite_numbers_alone(log: RunLog) -> None:
    log.write(3, {"reward": 0.5, "kl": math.nan, "max": math.inf, "n": 2, "name": "x", "no": None})
    (row,) = lines(log)
    assert row.pop("seconds") >= 0
    assert row == {"step": 3, "reward": 0.5, "n": 2.0}


def test_what_trl_logs_of_a_step_is_written_and_its_summary_is_not(
    log: RunLog, arguments: TrainingArguments
) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    log.on_metrics = lambda step, metrics: seen.append((step, metrics))
    log.on_log(arguments, state(4), TrainerControl(), logs={"reward": 0.25, "kl": 0.0})
    log.on_log(arguments, state(4), TrainerControl(), logs={"train_runtime": 3.0})
    log.on_log(arguments, state(4), TrainerControl())
    assert [row["step"] for row in lines(log)] == [4]
    (told,) = seen
    assert told[0] == 4
    assert {name: told[1][name] for name in ("reward/total", "loss/kl")} == {
        "reward/total": 0.25,
        "loss/kl": 0.0,
    }


def test_the_trainers_own_log_does_not_grow(log: RunLog, arguments: TrainingArguments) -> None:
    kept = state(4)
    kept.log_history.append({"reward": 0.25})
    log.on_log(arguments, kept, TrainerControl(), logs={"reward": 0.25})
    assert kept.log_history == []


def test_a_resumed_run_drops_what_it_runs_again_and_goes_on_counting_time(
    log: RunLog, arguments: TrainingArguments
) -> None:
    for step in range(1, 5):
        log.write(step, {"reward": step / 10})
    assert log.tracker is not None
    path = log.tracker.folder / "metrics.jsonl"
    rows = [json.loads(line) | {"seconds": 50.0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "rew')
    transcripts = log.tracker.folder / "transcripts"
    transcripts.mkdir()
    for step in (2, 3, 100_000):
        (transcripts / f"step-{step:05d}.jsonl").touch()
    (transcripts / "step-foo.jsonl").touch()  # somebody's own
    resumed = RunLog(Tracker(log.tracker.folder), codec=log.codec)
    resumed.on_train_begin(arguments, state(2), TrainerControl())
    resumed.write(3, {"reward": 0.9})
    assert [(row["step"], row["reward"]) for row in lines(log)] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.9),
    ]
    assert lines(log)[-1]["seconds"] >= 50
    left = sorted(path.name for path in transcripts.iterdir())
    assert left == ["step-00002.jsonl", "step-foo.jsonl"]


def test_a_new_run_keeps_the_line_before_its_first_step(
    log: RunLog, arguments: TrainingArguments
) -> None:
    log.write(0, {"held_out/reward": 0.1})
    log.on_train_begin(arguments, state(0), TrainerControl(), model=None)
    assert len(lines(log)) == 1


def test_transcripts_of_a_step_are_written_once(log: RunLog, components: Components) -> None:
    episodes = [components.start(question) for question in components.questions]
    rollouts = [Rollout(episode, 0, [5], [6], [0.0], [1]) for episode in episodes]
    log.transcripts_per_step = 2
    for _ in range(2):  # the second time as a resumed run does
        log.observe(0, rollouts)
    assert log.tracker is not None
    (path,) = (log.tracker.folder / "transcripts").iterdir()
    assert path.name == "step-00001.jsonl"
    assert list(load_episodes(path)) == episodes[:2]


@pytest.mark.parametrize(
    ("step", "last", "stopping", "evaluated"),
    [(5, 100, False, True), (6, 100, False, False), (6, 6, False, True), (6, 100, True, True)],
)
def test_held_out_questions_are_run_now_and_then_and_at_the_end_even_an_early_one(
    log: RunLog,
    arguments: TrainingArguments,
    components: Components,
    step: int,
    last: int,
    stopping: bool,
    evaluated: bool,
) -> None:
    log.held_out = HeldOut(components, components.questions, TokenLimits(5, 60), places=2)
    log.held_out_every = 5
    control = TrainerControl(should_training_stop=stopping)
    model = random_model(TOKENIZER, layers=1)
    log.on_log(arguments, state(step, last), control, logs={"reward": 0.5}, model=model)
    training, *held_out = lines(log)
    assert training["reward/total"] == 0.5
    if not evaluated:
        assert not held_out
        return
    (row,) = held_out
    assert row["step"] == step
    assert {"held_out/reward", "held_out/em", "held_out/searches"} <= row.keys()
    assert {"held_out/reward/1-hop", "held_out/reward/2-hop", "held_out/em/2-hop"} <= row.keys()
    assert row["held_out/reward_low"] <= row["held_out/reward"] <= row["held_out/reward_high"]
    assert row["held_out/questions"] == 3
    assert log._paused >= row["seconds/held_out"] > 0  # not counted as training time


def test_held_out_runs_are_greedy_and_the_same_each_time(components: Components) -> None:
    held_out = HeldOut(components, components.questions * 2, TokenLimits(6, 80), places=3)
    model, codec = random_model(TOKENIZER, layers=1), Codec(TOKENIZER)
    episodes = held_out.run(model, codec)
    assert episodes == held_out.run(model, codec)
    assert episodes[:3] == episodes[3:]  # nothing is drawn
    assert [episode.question for episode in episodes] == list(held_out.questions)
    groups = held_out.estimates(episodes)
    assert list(groups) == ["all", "1-hop", "2-hop"]
    assert groups["all"]["reward"].n == 6


def test_the_choice_of_held_out_questions_is_set_by_the_seed(components: Components) -> None:
    questions = components.questions
    assert choose(questions, 2, seed=0) == choose(questions, 2, seed=0)
    assert len(set(choose(questions, 2, seed=0))) == 2
    assert set(choose(questions, 99, seed=0)) == set(questions)


def test_held_out_questions_that_are_trained_on_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held_out = [Question(name, text, ("x",)) for name, text in (("a", "Who is Mara?"), ("b", "?"))]
    training = [Question(f"t{n}", f"Where is town {n}?", ("y",)) for n in range(50)]
    assert warn_of_overlap(held_out, training) == 0
    assert not caplog.messages
    assert warn_of_overlap(held_out, [*training, Question("t", "who is the Mara", ("x",))]) == 1
    (warning,) = caplog.messages
    assert "1 of 2 held-out questions are trained on, too ('Who is Mara?' is one)" in warning


def test_now_and_then_transcripts_are_shown_with_their_rewards(
    tmp_path: Path, components: Components
) -> None:
    shown: list[tuple[str, str, int]] = []

    class Run:
        id, url = "abc", None

        def page(self, name: str, html: str, step: int) -> None:
            shown.append((name, html, step))

    (episode,) = components.step(
        [components.start(components.questions[1])], ["<answer> Dray </answer>"]
    )
    rollouts = [Rollout(episode, number, [5], [6], [0.0], [1]) for number in range(6)]
    log = RunLog(
        Tracker(tmp_path, wandb_run=Run()),  # type: ignore[arg-type]
        codec=Codec(TOKENIZER),
        held_out_every=5,
        reward=components.reward,
    )
    for step in range(10):
        log.observe(step, rollouts)
    assert [step for _, _, step in shown] == [1, 5, 10]
    name, page, _ = shown[0]
    assert name == "transcripts"
    assert "Where was Mara Ellson born?" in page
    assert "rollout 3" in page
    assert "rollout 4" not in page  # four of six
    assert "1.00" in page  # its reward
    assert len(list((tmp_path / "transcripts").iterdir())) == 10


def test_a_process_that_is_not_the_main_one_writes_nothing(
    arguments: TrainingArguments, components: Components
) -> None:
    log = RunLog(None, codec=Codec(TOKENIZER), reward=components.reward)
    log.on_train_begin(arguments, state(3), TrainerControl())
    log.observe(0, [])
    log.on_log(arguments, state(4), TrainerControl(), logs={"reward": 0.25})
    log.on_train_end(arguments, state(4), TrainerControl())
