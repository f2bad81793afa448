"""More than a search server can do: too many queries, too large bodies, clients that only stay.

What is looked at is its resident memory, and that a well-behaved client gets an answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tests.faults.retrieval_limits import Finding, metric, post
from tests.faults.retrieval_server import ServerProcess

_MEGABYTE = 2**20


class Memory:
    """Resident memory of a server while something happens, read fifty times a second."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.megabytes: list[float] = []

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.megabytes.append(self._server.memory() / _MEGABYTE)

    def thirds(self) -> list[float]:
        """The most in each third of the time."""
        third = max(1, len(self.megabytes) // 3)
        return [max(self.megabytes[start * third :][:third]) for start in range(3)]


def queries(index: Path, clients: int, most: int, seconds: float) -> Finding:
    """Clients that ask as fast as they can, and never wait when they are sent away."""
    server = ServerProcess(index, delay=0.05, max_waiting=most, max_batch=16, cache_bytes=_MEGABYTE)
    counts: Counter[int] = Counter()
    end = time.monotonic() + seconds

    def ask(client: int) -> Counter[int]:
        own: Counter[int] = Counter()
        while time.monotonic() < end:
            number = own.total()
            texts = [f"{client} {number} {place} " + "film " * 400 for place in range(4)]
            own[post(server, {"queries": texts}).status] += 1
        return own

    try:
        with Memory(server) as memory, ThreadPoolExecutor(clients) as threads:
            for own in threads.map(ask, range(clients)):
                counts += own
    finally:
        server.stop()
    first, _, last = memory.thirds()
    answered, refused = counts[200], counts[429] + counts[503]
    others = counts.total() - answered - refused
    return Finding(
        "queries",
        f"{clients} clients against an engine of 50 ms a call, at most {most} queries waiting, "
        f"{seconds:g} s",
        f"{answered:,} answered, {refused:,} sent away with 503, {others} anything else; memory "
        f"{first:.0f} MB in the first third, {last:.0f} MB in the last",
        others == 0 and refused > answered > 0 and last < first + 16,
    )


def bodies(index: Path, clients: int, megabytes: int) -> Finding:
    """Requests that are large and do not end: together far more than may be arriving."""
    most = 64
    server = ServerProcess(index, max_arriving_bytes=most * _MEGABYTE, body_seconds=60.0)
    last_bytes = threading.Event()
    sent = threading.Semaphore(0)
    """Taken once by each client: when all are there, the first may end its request."""

    def parts() -> Iterator[bytes]:
        yield b'{"queries": ["Ida Larkin"]'
        for _ in range(megabytes):
            yield b" " * _MEGABYTE
        sent.release()
        last_bytes.wait()
        yield b"}"

    def ask(client: int) -> int:
        try:
            return post(server, parts()).status
        except (OSError, http.client.HTTPException):
            sent.release()
            return 0  # sent away while it still sent, without having read why

    try:
        before = server.memory() / _MEGABYTE
        with Memory(server) as memory, ThreadPoolExecutor(clients) as threads:
            statuses = threads.map(ask, range(clients))
            for _ in range(clients):
                sent.acquire()
            last_bytes.set()
            counts = Counter(statuses)
        after = post(server, {"queries": ["Ida Larkin"]}).status
    finally:
        server.stop()
    grown = max(memory.megabytes) - before
    others = counts.total() - counts[200] - counts[503] - counts[0]
    return Finding(
        "bodies",
        f"{clients} requests of {megabytes} MB at once, {clients * megabytes:,} MB, of which "
        f"{most} MB may be arriving",
        f"{counts[200]} answered, {counts[503] + counts[0]} sent away, {others} anything else; "
        f"memory grew by {grown:.0f} MB at most",
        others == 0 and after == 200 and counts[200] > 0 and grown < 3 * most,
    )


def silent_connections(index: Path, count: int) -> Finding:
    """Connections that bring nothing, or half a head, as many as the server takes."""
    idle = 1.0
    server = ServerProcess(index, max_connections=count, idle_seconds=idle)
    halves = (b"", b"POST /retr", b"POST /retrieve HTTP/1.1\r\nHost: x\r\n")
    try:
        with contextlib.ExitStack() as stack:
            taken = []
            for number in range(count):
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
                stack.enter_context(connection)
                connection.sendall(halves[number % len(halves)])
                taken.append(connection)
            during = post(server, {"queries": ["Ida Larkin"]}).status
            closed = sum(_is_ended(connection) for connection in taken)
            after = post(server, {"queries": ["Ida Larkin"]}).status
    finally:
        server.stop()
    return Finding(
        "silent connections",
        f"{count} connections that bring nothing or half a head, of {count} that it takes; "
        f"`idle_seconds` {idle:g}",
        f"a request beside them is a {during}; {closed} closed by the server, then it is a {after}",
        during in (200, 503) and closed == count and after == 200,
    )


def _is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def unread_answers(index: Path, questions: list[str], count: int) -> Finding:
    """Requests whose large answers nobody reads: worked out, and then?"""
    server = ServerProcess(index, idle_seconds=1.0)
    texts = (questions * 3)[:1000]
    body = json.dumps({"queries": texts, "topk": 60}).encode()
    head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    try:
        size = len(post(server, body).body) / _MEGABYTE
        with Memory(server) as memory, contextlib.ExitStack() as stack:
            for _ in range(count):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                connection.settimeout(60)
                connection.connect(("127.0.0.1", server.port))
                stack.enter_context(connection)
                connection.sendall(head + body)
            until = time.monotonic() + 60
            while metric(server, "request_seconds_count") <= count:
                time.sleep(0.1)
            while server.sockets("ESTABLISHED") and time.monotonic() < until:
                time.sleep(0.1)
            left = len(server.sockets("ESTABLISHED"))
        after = post(server, {"queries": ["Ida Larkin"]}).status
    finally:
        server.stop()
    return Finding(
        "unread answers",
        f"{count} requests for answers of {size:.0f} MB that nobody reads; `idle_seconds` 1",
        f"{count - left} closed by the server; memory {max(memory.megabytes):.0f} MB at most; "
        f"then a request is a {after}",
        left == 0 and after == 200,
    )
