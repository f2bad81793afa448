"""The servers that a client may ask: pooled connections, who is busy, who is down.

Belongs to one process. Every wait on a socket ends with the deadline of the request it serves, so
that a server which sends a byte now and then cannot hold a call.
"""

from __future__ import annotations

import ipaddress
import os
import random
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from refine_env.backoff import wait_before

try:
    import httpcore
except ImportError as error:
    raise ImportError(
        "the http retriever needs httpcore: pip install 'refine-env[serve]'"
    ) from error

_WRITE_BYTES = 65_536


class _Deadline(threading.local):
    """When the request of this thread has to be over, on `time.monotonic`'s clock."""

    end = float("inf")


_deadline = _Deadline()


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    left = min(_deadline.end - time.monotonic(), float("inf") if timeout is None else timeout)
    if left <= 0:
        raise error("the deadline has passed")
    return None if left == float("inf") else left


class _Stream(httpcore.NetworkStream):
    """A connection on which no single read or write outlasts the request's deadline."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._head = bytearray()
        self._after_head: int | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))
        if self._after_head is not None:
            self._after_head += len(data)
            return data
        start = max(0, len(self._head) - 3)
        self._head += data
        end = self._head.find(b"\r\n\r\n", start)
        if end >= 0:
            self._after_head = len(self._head) - end - 4
        return data

    def ends_with(self, body_bytes: int) -> bool:
        """Whether nothing has come after an answer with a body of so many bytes. False where that
        is not known, as with an answer in chunks.
        """
        return self._after_head == body_bytes

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head.clear()
        self._after_head = None
        for start in range(0, len(buffer), _WRITE_BYTES):
            part = buffer[start : start + _WRITE_BYTES]
            self._inner.write(part, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


@dataclass(eq=False)
class Replica:
    """One server."""

    url: str
    pool: httpcore.ConnectionPool
    in_flight: int = 0
    closed_until: float = 0.0
    """It is not asked before then: it could not be reached, or said that it is busy."""
    failures: int = 0
    failed_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, started: float, pause: float | None, backoff: float, most: float) -> None:
        """Leave the server alone for `pause` seconds, or for longer with every failure in a row.

        Requests that were under way together count as one failure.
        """
        now = time.monotonic()
        with self.lock:
            if started >= self.failed_at:
                self.failures += 1
                self.failed_at = now
            if pause is None:
                pause = wait_before(self.failures, backoff, most)
            self.closed_until = max(self.closed_until, now + pause)

    def answered(self) -> None:
        with self.lock:
            self.failures, self.closed_until = 0, 0.0


class Replicas:
    """The servers of one client in one process."""

    def __init__(self, urls: Iterable[str], max_connections: int) -> None:
        self.pid = os.getpid()
        self._all = [Replica(url, _pool(url, max_connections)) for url in urls]
        self._lock = threading.Lock()

    @contextmanager
    def least_loaded(self, open_at: Mapping[Replica, float]) -> Iterator[Replica]:
        """The open server with the fewest requests under way; else the one that opens first.

        `open_at` says when the caller wants to ask a server again.
        """
        now = time.monotonic()
        with self._lock:

            def preference(replica: Replica) -> tuple[float, int, float]:
                opens = max(replica.closed_until, open_at.get(replica, 0.0))
                return (max(opens, now), replica.in_flight, random.random())

            chosen = min(self._all, key=preference)
            chosen.in_flight += 1
        try:
            yield chosen
        finally:
            with self._lock:
                chosen.in_flight -= 1

    def close(self) -> None:
        for replica in self._all:
            replica.pool.close()


def post(
    replica: Replica, body: bytes, headers: Mapping[str, str], end: float, connect: float, most: int
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of an answer that is complete before `end`.

    Raises what httpcore raises, `ValueError` for a body of more than `most` bytes.
    """
    left = max(0.001, end - time.monotonic())
    timeouts = {"connect": min(connect, left), "read": left, "write": left, "pool": left}
    _deadline.end = end
    try:
        with replica.pool.stream(
            "POST",
            replica.url,
            headers=list(headers.items()),
            content=body,
            extensions={"timeout": timeouts},
        ) as response:
            parts, size = [], 0
            for part in response.iter_stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise ValueError(f"the answer has more than {most} bytes")
            stream = response.extensions.get("network_stream")
            if isinstance(stream, _Stream) and not stream.ends_with(size):
                stream.close()  # httpcore would take what lies there for the next answer
            answered = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            return response.status, answered, b"".join(parts)
    finally:
        _deadline.end = float("inf")


def _pool(url: str, max_connections: int) -> httpcore.ConnectionPool:
    parts = urlsplit(url)
    context = httpcore.default_ssl_context() if parts.scheme == "https" else None
    return httpcore.ConnectionPool(
        ssl_context=context,
        proxy=_proxy(parts.scheme, parts.hostname or ""),
        max_connections=max_connections,
        keepalive_expiry=4.0,  # less than the 5 seconds after which uvicorn closes
        network_backend=_Backend(),
    )


def _proxy(scheme: str, host: str) -> httpcore.Proxy | None:
    """The proxy that the environment names for a host; never one for this machine itself."""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    address = urllib.request.getproxies().get(scheme)
    if not address:
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    auth = (parts.username, parts.password or "") if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.hostname}:{parts.port or 80}", auth=auth)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
