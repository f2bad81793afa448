"""Processes on this machine that share work in chunks; one that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
import typing
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from experiments.inputs import InputError
from refine_env.retrieval.base import RetrieverError

logger = logging.getLogger(__name__)

MAX_LOSSES = 3
"""So often the same work may cost a worker its life before the run gives up."""


class Chunk(typing.Protocol):
    """Work that is handed out at once. Has to be picklable."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """What is done once; each is reported when it is done."""
        ...

    def only(self, keys: Sequence[Hashable]) -> Chunk:
        """What has to be run again where these keys alone are left of it."""
        ...


class Done(typing.Protocol):
    """The report on a key."""

    @property
    def key(self) -> Hashable: ...


Runner = Callable[[Any, Callable[[Any], None]], None]
"""Runs a chunk and calls its second argument with a `Done` for each key, as they are done."""


class Ledger:
    """Which chunks wait, which worker has which, and what is done.

    What a lost worker had left waits again. A key counts once, however often it was run. Raises
    `InputError` from `lost` once the same work has cost `MAX_LOSSES` workers.
    """

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._waiting = deque(chunks)
        self._leases: dict[Hashable, tuple[Chunk, dict[Hashable, None]]] = {}
        self._losses: Counter[Hashable] = Counter()
        self._done: set[Hashable] = set()

    @property
    def waiting(self) -> int:
        """Chunks that nobody has."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self._waiting or self._leases)

    def take(self, worker: Hashable) -> Chunk | None:
        """The next chunk, for `worker`; None when there is none at the moment."""
        if not self._waiting:
            return None
        chunk = self._waiting.popleft()
        self._leases[worker] = (chunk, dict.fromkeys(chunk.keys))
        return chunk

    def finish(self, worker: Hashable, key: Hashable) -> bool:
        """Note that a key is done; whether it was not so before."""
        if worker in self._leases:
            self._leases[worker][1].pop(key, None)
        if key in self._done:
            return False
        self._done.add(key)
        return True

    def give_back(self, worker: Hashable) -> None:
        """The worker has run its chunk and is free."""
        _, left = self._leases.pop(worker)
        if left:
            raise RuntimeError(f"a worker left {len(left)} parts of its chunk out")

    def lost(self, worker: Hashable, reason: str) -> None:
        """The worker is gone; what it had and was not done waits again, before all else."""
        if worker not in self._leases:
            logger.warning("a worker without work was lost (%s)", reason)
            return
        chunk, left = self._leases.pop(worker)
        self._losses.update(list(left))
        if left and max(self._losses[key] for key in left) >= MAX_LOSSES:
            raise InputError(
                f"{MAX_LOSSES} workers were lost on the same questions, the last one with "
                f"{reason}. Where memory ran out, take fewer --workers or smaller batches"
            )
        logger.warning("a worker was lost (%s); what it had left is run again", reason)
        if left:
            self._waiting.appendleft(chunk.only(tuple(left)))


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a worker, on its way to the process that started it."""

    expected: bool
    """Whether the message alone says enough."""
    text: str

    @classmethod
    def of(cls, error: Exception) -> Fault:
        if isinstance(error, RetrieverError):
            return cls(True, f"a search failed: {error}")
        if isinstance(error, InputError):
            return cls(True, str(error))
        return cls(False, "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """What the starting process raises."""
        if self.expected:
            return InputError(self.text)
        return RuntimeError(f"a worker failed:\n{self.text}")


class Fleet:
    """Spawned processes, fed through pipes. One that dies is replaced, and what it had is run
    again.

    `open_runner` is called once in each process; it has to be picklable.
    """

    def __init__(self, open_runner: Callable[[], Runner], workers: int) -> None:
        self._open_runner = open_runner
        self._workers = workers
        self._fleet: dict[Connection, tuple[int, BaseProcess]] = {}

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run at the moment."""
        return [process.pid for _, process in self._fleet.values() if process.pid is not None]

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Any]:
        """What was reported on each key, once, in the order in which they were done.

        Raises `InputError` for a search that failed and for chunks that cost `MAX_LOSSES` workers,
        `RuntimeError` with its traceback for any other error in a worker.
        """
        ledger = Ledger(chunks)
        try:
            while ledger.is_open:
                while len(self._fleet) < self._workers and ledger.waiting:
                    connection = self._start()
                    self._feed(connection, ledger)
                for ready in wait(list(self._fleet)):
                    assert isinstance(ready, Connection)
                    yield from self._receive(ready, ledger)
        finally:
            self._stop()

    def _receive(self, connection: Connection, ledger: Ledger) -> Iterator[Any]:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._bury(connection, ledger)
            return
        if isinstance(message, Fault):
            raise message.error()
        if message is not None:
            if ledger.finish(connection, message.key):
                yield message
            return
        ledger.give_back(connection)
        if not self._feed(connection, ledger):
            self._fleet.pop(connection)[1].join()  # told to stop; another is started if need be
            connection.close()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork dies with torch, numba and faiss
        ours, theirs = context.Pipe()
        taken = {number for number, _ in self._fleet.values()}
        number = next(number for number in range(self._workers) if number not in taken)
        arguments = (theirs, self._open_runner, self._workers, number)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends with the process
        self._fleet[ours] = (number, process)
        return ours

    def _feed(self, connection: Connection, ledger: Ledger) -> bool:
        """Hand out the next chunk; False when there is none and the worker was told to stop."""
        chunk = ledger.take(connection)
        try:
            connection.send(chunk)
        except OSError:
            if chunk is not None:
                self._bury(connection, ledger)
                return True
        return chunk is not None

    def _bury(self, connection: Connection, ledger: Ledger) -> None:
        _, process = self._fleet.pop(connection)
        process.join()
        connection.close()
        ledger.lost(connection, f"exit code {process.exitcode}")

    def _stop(self) -> None:
        for connection, (_, process) in self._fleet.items():
            connection.close()
            process.terminate()
        for _, process in self._fleet.values():
            process.join()
        self._fleet.clear()


def _end_with_the_parent() -> None:
    """End this process, in the middle of its work, when the one that started it was killed: what it
    holds, such as the lock of a folder, is free for the next.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


_worker_number = 0


def worker_number() -> int:
    """Which of a fleet's processes this is, counted from 0; 0 in a process of no fleet."""
    return _worker_number


def _work(
    connection: Connection, open_runner: Callable[[], Runner], workers: int, number: int
) -> None:
    """A worker: chunks come in, reports go out, None after the last of a chunk."""
    global _worker_number
    _worker_number = number
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and stops us
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        runner = open_runner()
        while (chunk := connection.recv()) is not None:
            runner(chunk, connection.send)
            connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception as error:
        connection.send(Fault.of(error))
