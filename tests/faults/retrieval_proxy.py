"""A TCP proxy before a search server that does to requests what it is told, by their number.

It reads whole requests, so that it knows which one it has. Each query of the harness ends in a
word such as `n123x0`: request 123, its query 0.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Handler = Callable[["Exchange"], bool]
"""Deals with one request; whether the connection may bring another."""

SECONDS = 30.0
"""How long the proxy waits for anyone."""


class Faults:
    """Which request is to be hit by what, and which has been. For threads."""

    def __init__(self, plan: dict[int, tuple[str, int]], seed: int = 0) -> None:
        self._left = {number: times for number, (_, times) in plan.items()}
        self._kinds = {number: kind for number, (kind, _) in plan.items()}
        self._lock = threading.Lock()
        self._dice = random.Random(seed)
        self.hit: set[int] = set()

    def take(self, number: int) -> str | None:
        """What happens to this attempt of the request."""
        with self._lock:
            if self._left.get(number, 0) <= 0:
                return None
            self._left[number] -= 1
            self.hit.add(number)
            return self._kinds[number]

    def dice(self) -> random.Random:
        """A generator for one attempt."""
        with self._lock:
            return random.Random(self._dice.random())


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a client, before it is answered."""

    client: socket.socket
    request: bytes
    forward: Callable[[], bytes]
    """The server's answer, head and body. Raises `OSError`."""
    proxy: Proxy
    number: int
    dice: random.Random

    @property
    def count(self) -> int:
        """Queries in the request."""
        return len(json.loads(split(self.request)[1])["queries"])


class Proxy:
    """One address before one server, whose port may be asked for again and again."""

    def __init__(
        self, faults: Faults, handlers: Mapping[str, Handler], backend: Callable[[], int]
    ) -> None:
        self._faults = faults
        self._handlers = handlers
        self._backend = backend
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._given: dict[int, tuple[int, bytes]] = {}
        self._kept: list[socket.socket] = []
        self._port = 0
        self.resume()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def resume(self) -> None:
        """Listen, at the same address as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def pause(self) -> None:
        """Refuse connections, and cut those that are there."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.pause()
        for connection in self._kept:
            connection.close()

    def keep(self, connection: socket.socket) -> None:
        """Leave a connection open and unattended to the end."""
        with self._lock:
            self._kept.append(connection)

    def another_answer(self, exchange: Exchange) -> bytes:
        """What the server last gave to another request, of as many queries where there was one."""
        with self._lock:
            alike = self._given.get(exchange.count)
            every = [given for given in self._given.values() if given[0] != exchange.number]
        if alike is not None and alike[0] != exchange.number:
            return alike[1]
        return every[0][1] if every else b""

    def backend(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._backend()), timeout=SECONDS)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        servers: list[socket.socket] = []
        try:
            client.settimeout(SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (request := read_message(client)) and self._deal(client, request, servers):
                pass
        except (OSError, ValueError):
            pass  # someone went away
        finally:
            with self._lock:
                self._open.discard(client)
            for connection in [*servers, client]:
                if connection not in self._kept:
                    connection.close()

    def _deal(self, client: socket.socket, request: bytes, servers: list[socket.socket]) -> bool:
        found = re.search(rb"n(\d+)x", split(request)[1])
        number = int(found[1]) if found else -1

        def forward() -> bytes:
            if not servers:
                servers.append(self.backend())
            servers[0].sendall(request)
            answer = read_message(servers[0])
            if not answer:
                raise ConnectionError("the server gave no answer")
            return answer

        kind = self._faults.take(number)
        exchange = Exchange(client, request, forward, self, number, self._faults.dice())
        if kind is not None:
            return self._handlers[kind](exchange)
        answer = forward()
        if answer.startswith(b"HTTP/1.1 200"):
            with self._lock:
                self._given[exchange.count] = (number, answer)
        client.sendall(answer)
        return True


def read_message(connection: socket.socket) -> bytes:
    """A request or an answer with a Content-Length; empty when nothing more comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    length = int(found[1]) if found else 0
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def split(message: bytes) -> tuple[bytes, bytes]:
    """Head, without its blank line, and body."""
    head, _, body = message.partition(b"\r\n\r\n")
    return head, body
