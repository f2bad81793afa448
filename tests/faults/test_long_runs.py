"""Long runs: what is read of a process, the rule that judges, and the vector environment."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from refine_env.types import Episode
from tests.faults import long_episodes, long_training
from tests.faults.long_flatness import COUNTS, draw, judge
from tests.faults.long_watch import Reading, load, read_tree, save

MB = 2**20


def series(leak: float = 0.0, slower: float = 0.0, **grown: int) -> list[Reading]:
    """200 readings of 1,000 steps each: 100 MB, up to 20 more within a step, 1 ms a step.

    `leak` bytes a step; `slower`: how much longer a step takes in the end; `grown`: counts that
    are larger from the middle on.
    """
    found, processor = [], 0.0
    for number in range(200):
        processor += 1 + slower * number / 200
        found.append(
            Reading(
                seconds=number,
                work=1000 * number,
                processor=processor,
                resident=int(100 * MB + 7 * number % 10 * 2 * MB + leak * 1000 * number),
                private=0,
                **{name: 3 + (grown.get(name, 0) if number > 100 else 0) for name in COUNTS},
            )
        )
    return found


def test_a_run_that_stays_as_it_was_is_flat() -> None:
    assert judge(series()).is_flat
    first = [replace(reading, resident=MB) for reading in series()[:50]]
    assert judge([*first, *series()[50:]]).is_flat  # caches fill in the first quarter


def test_a_leak_of_a_small_object_a_step_is_seen() -> None:
    flatness = judge(series(leak=56))
    assert not flatness.memory_is_flat
    assert flatness.slope == pytest.approx(56)
    assert judge(series(leak=5)).memory_is_flat  # half a megabyte of 100


def test_steps_that_take_longer_and_longer_are_seen() -> None:
    assert not judge(series(slower=0.5)).time_is_flat


@pytest.mark.parametrize("name", COUNTS)
def test_one_more_handle_thread_or_process_is_seen(name: str) -> None:
    flatness = judge(series(**{name: 1}))
    assert flatness.grown == (name,)
    assert not flatness.is_flat


def test_too_few_readings_are_not_judged() -> None:
    with pytest.raises(ValueError, match="39 readings are too few"):
        judge(series()[:39])


def test_readings_are_kept_and_drawn(tmp_path: Path) -> None:
    readings = series()
    save(tmp_path / "readings.json", readings, {"steps": 1})
    assert load(tmp_path / "readings.json") == readings
    draw(readings, judge(readings), tmp_path / "picture.png", "steps")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_handles_threads_and_children_of_a_process_are_counted(tmp_path: Path) -> None:
    before = read_tree(os.getpid(), seconds=0.0, work=0)
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with (tmp_path / "file").open("wb"):
            during = read_tree(os.getpid(), seconds=0.0, work=0)
    finally:
        go.set()
        child.communicate()
        thread.join()
    after = read_tree(os.getpid(), seconds=0.0, work=0)
    assert before and during and after
    assert during.processes == before.processes + 1
    assert during.threads >= before.threads + 2  # the thread, and the child's own
    assert during.handles > before.handles + 1
    assert during.resident > before.resident
    assert after.processes == before.processes
    assert read_tree(child.pid, seconds=0.0, work=0) is None


def _episodes_in_memory() -> int:
    gc.collect()
    return sum(type(found) is Episode for found in gc.get_objects())


def test_the_vector_environment_keeps_no_episode_that_is_over() -> None:
    before = _episodes_in_memory()  # of other tests
    readings = long_episodes.run(2000, 500)
    assert [reading.work // 500 for reading in readings] == [1, 2, 3, 4]
    assert {(r.handles, r.threads, r.processes) for r in readings[1:]} == {
        (readings[0].handles, readings[0].threads, readings[0].processes)
    }
    assert _episodes_in_memory() - before <= 2  # the one that scores were last worked out of


def test_no_two_turns_of_the_policy_are_equal() -> None:
    policy = long_episodes.NeverTheSame(seed=0)
    turns = [policy.turn("<documents> one and the same </documents>") for _ in range(500)]
    assert len(set(turns)) == 500
    assert 200 < sum("<search>" in turn for turn in turns) < 400
    assert 80 < sum("<answer>" in turn for turn in turns) < 250


def test_the_steps_of_a_run_are_read_from_its_last_whole_line(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert long_training.steps_done(metrics) == 0
    lines = [json.dumps({"step": step, "filled": "x" * 9000}) + "\n" for step in range(5)]
    metrics.write_text("".join(lines) + '{"step": 5, "fi')
    assert long_training.steps_done(metrics) == 4


STANDS_FOR_TRAINING = """
import pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
for step in range(10**6):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": %d}\\n' % step)
    time.sleep(0.01)
"""


def test_a_run_is_watched_with_its_children_and_ended_with_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STANDS_FOR_TRAINING, str(tmp_path / "run")]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    readings = long_training.watch(run, tmp_path, seconds=0.5, every=0.1)
    assert {reading.processes for reading in readings} == {2}
    assert readings[-1].work > readings[0].work > 0
    assert long_training.end(run) == []  # the child reads the end of its input, and ends
    assert run.poll() is not None


def test_a_run_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", ""])
    with pytest.raises(RuntimeError, match="the run ended, after 0 steps"):
        long_training.watch(run, tmp_path, seconds=5, every=0.1)
    run.wait()
