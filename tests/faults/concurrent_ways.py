"""Ways to have many environments at once, each with a deadline: what hangs is counted."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.faults.concurrent_episodes import Record, play, play_side_by_side

WORKERS = 8
STARTED_WORKERS = 2
"""Processes that import everything anew; each takes seconds of processor time for that."""

Play: TypeAlias = Callable[[str, Sequence[int]], list[Record]]


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of the episodes of one way with one retriever."""

    equal: int = 0
    different: int = 0
    failed: int = 0
    """An exception, or a process that died."""
    hung: int = 0
    """Not there at the deadline."""
    error: str = ""
    """The first that was raised."""

    @property
    def good(self) -> bool:
        return not (self.different or self.failed or self.hung)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker gave."""

    records: list[Record] | None
    """None where it raised."""
    error: str = ""


def count(
    answers: Sequence[Answer], expected: Sequence[Record], workers: int, error: str = ""
) -> Counts:
    """Compare every worker's episodes with the expected ones, place by place.

    Workers without an answer hung, or with `error` failed.
    """
    whole = [answer.records for answer in answers if answer.records is not None]
    equal = sum(a == b for records in whole for a, b in zip(records, expected, strict=True))
    raised = [answer.error for answer in answers if answer.records is None]
    missing = workers - len(answers)
    failed = len(raised) + (missing if error else 0)
    return Counts(
        equal=equal,
        different=len(whole) * len(expected) - equal,
        failed=failed * len(expected),
        hung=(0 if error else missing) * len(expected),
        error=next(iter([*raised, error]), ""),
    )


def in_threads(
    spec: str, seeds: Sequence[int], expected: Sequence[Record], seconds: float
) -> Counts:
    """Environments of eight threads that start together. A hang is seen by the caller of this
    process: threads cannot be stopped.
    """
    barrier = threading.Barrier(WORKERS)

    def work(_: int) -> Answer:
        barrier.wait(seconds)
        return _answer(play, spec, seeds)

    with ThreadPoolExecutor(WORKERS) as threads:
        return count(list(threads.map(work, range(WORKERS))), expected, WORKERS)


def in_processes(
    method: str,
    workers: int,
    spec: str,
    seeds: Sequence[int],
    expected: Sequence[Record],
    seconds: float,
    work: Play = play,
) -> Counts:
    """Environments of processes that are started by `method`."""
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    started = [
        context.Process(target=_put, args=(work, spec, seeds, results)) for _ in range(workers)
    ]
    for process in started:
        process.start()
    answers: list[Answer] = []
    end, error = time.monotonic() + seconds, ""
    try:
        while len(answers) < workers and time.monotonic() < end and not error:
            with contextlib.suppress(queue.Empty):
                answers.append(results.get(timeout=0.5))
                continue
            error = _death(started)
        for process in started:
            process.join(max(0.1, end - time.monotonic()) if len(answers) == workers else 0)
        # An answer of a process that then does not end is no answer.
        ended = sum(not process.is_alive() for process in started)
    finally:
        for process in started:
            process.kill()
    return count(answers[:ended], expected, workers, error)


def forked_while_searching(
    spec: str, seeds: Sequence[int], expected: Sequence[Record], seconds: float
) -> Counts:
    """Forks at moments in which other threads are within a search, and hold whatever it holds."""
    with _searching(spec, seeds):
        return in_processes("fork", WORKERS, spec, seeds, expected, seconds)


@contextlib.contextmanager
def _searching(spec: str, seeds: Sequence[int], threads: int = 4) -> Iterator[None]:
    """Threads that play episodes all the while."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            play(spec, seeds[:1])

    running = [threading.Thread(target=busy, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()


def side_by_side(
    kind: str, spec: str, seeds: Sequence[int], expected: Sequence[Record], seconds: float
) -> Counts:
    """A vector environment; as with threads, the caller sees a hang."""
    return count([_answer(functools.partial(play_side_by_side, kind), spec, seeds)], expected, 1)


Way: TypeAlias = Callable[[str, Sequence[int], Sequence[Record], float], Counts]
WAYS: dict[str, Way] = {
    "8 threads": in_threads,
    "8 forked processes": functools.partial(in_processes, "fork", WORKERS),
    "8 forked while threads search": forked_while_searching,
    "8 forked, a vector environment in each": functools.partial(
        in_processes, "fork", WORKERS, work=functools.partial(play_side_by_side, "ours")
    ),
    "2 spawned processes": functools.partial(in_processes, "spawn", STARTED_WORKERS),
    "2 processes of a forkserver": functools.partial(in_processes, "forkserver", STARTED_WORKERS),
    "SyncVectorEnv": functools.partial(side_by_side, "sync"),
    "AsyncVectorEnv, forked": functools.partial(side_by_side, "fork"),
    "AsyncVectorEnv, spawned": functools.partial(side_by_side, "spawn"),
    "AutoRefineVectorEnv": functools.partial(side_by_side, "ours"),
}
"""What is tried: its name in the table, and how."""
EPISODES = {
    name: WORKERS if name.startswith("8") else STARTED_WORKERS if name.startswith("2") else 1
    for name in WAYS
}
"""How often each episode is played."""


def _answer(work: Play, spec: str, seeds: Sequence[int]) -> Answer:
    try:
        return Answer(work(spec, seeds))
    except Exception as error:  # told, and counted as a failure
        return Answer(None, f"{type(error).__name__}: {error}")


def _put(work: Play, spec: str, seeds: Sequence[int], results: Any) -> None:
    results.put(_answer(work, spec, seeds))


def _death(processes: Sequence[Any]) -> str:
    """How a process ended that should not have."""
    codes = [process.exitcode for process in processes if process.exitcode]
    return f"a process ended with exit code {codes[0]}" if codes else ""
