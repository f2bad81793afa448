"""Client of the `/retrieve` protocol that users of Search-R1, AutoRefine, SkyRL and verl run."""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from refine_env.backoff import wait_before
from refine_env.retrieval.base import RetrieverError, check_search
from refine_env.retrieval.replicas import Replica, Replicas, httpcore, post
from refine_env.retrieval.wire import (
    CHECK_HEADER,
    MAX_QUERIES,
    MAX_QUERY_CHARS,
    TOKEN_VARIABLE,
    check_of,
    clean,
    read_entry,
)
from refine_env.types import Document

logger = logging.getLogger(__name__)

_BUSY = (429, 502, 503, 504)
"""Said by a server, or by the proxy before it, that should be left alone for a while."""


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """How a client asks. The bearer token comes from `$REFINE_ENV_TOKEN` and is kept nowhere."""

    urls: tuple[str, ...]
    """Addresses of replicas of one index; one without a path means `/retrieve`."""
    deadline: float = 60.0
    """Seconds after which a call has ended, in an answer or a `RetrieverError`. Looking up a
    host's name is left to the system and not counted."""
    attempt_seconds: float = 30.0
    """Seconds after which one request is given up and sent again."""
    connect_seconds: float = 5.0
    """Seconds to wait for a connection."""
    backoff: float = 0.1
    """Seconds to wait after a first failure; doubles with every further one."""
    max_backoff: float = 2.0
    """Seconds that are waited at most between two attempts."""
    max_queries: int = MAX_QUERIES
    """Queries in one request; a larger batch is split. A server's own lower limit is learnt."""
    max_query_chars: int = MAX_QUERY_CHARS
    """Longer queries are cut: a policy may write anything, and a server takes no more."""
    max_connections: int = 64
    """Connections to one replica."""
    max_answer_bytes: int = 2**28
    """A longer answer is not read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", tuple(_address(url) for url in self.urls))
        if not self.urls:
            raise ValueError("the http retriever needs an address such as http://127.0.0.1:8000")
        for name in self.__slots__[1:]:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")


class HttpRetriever:
    """Asks one of several servers that hold the same index.

    What fails for reasons that may pass (no connection, a time-out, 5xx, 429, an answer that is not
    one) is sent again, to another replica first, until the deadline; any other 4xx is final. May be
    shared by threads, forked and pickled.
    """

    def __init__(self, config: HttpConfig | str) -> None:
        if isinstance(config, str):
            config = HttpConfig(tuple(url.strip() for url in config.split(",") if url.strip()))
        self.config = config
        self._replicas = Replicas(config.urls, config.max_connections)
        self._max_queries = config.max_queries
        self._inherited: list[Replicas] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return HttpRetriever, (self.config,)

    def search(self, queries: Sequence[str], k: int) -> list[list[Document]]:
        """One request for all queries. Raises `RetrieverError`, at the deadline at the latest."""
        queries, k = check_search(queries, k)
        end = time.monotonic() + self.config.deadline
        asked = [clean(query[: self.config.max_query_chars]) for query in queries]
        found: list[list[Document]] = []
        while len(found) < len(asked):
            part = asked[len(found) : len(found) + self._max_queries]
            try:
                found += self._ask(part, k, end)
            except _TooManyError as error:
                self._max_queries = error.limit
        return found

    def close(self) -> None:
        """Close the connections; a later search opens new ones."""
        self._own_replicas().close()

    def _own_replicas(self) -> Replicas:
        """Those of this process: a connection that came over a fork belongs to the parent."""
        replicas = self._replicas
        if replicas.pid != os.getpid():
            self._inherited.append(replicas)  # dropping it would close what the parent still uses
            replicas = Replicas(self.config.urls, self.config.max_connections)
            self._replicas = replicas
        return replicas

    def _ask(self, queries: list[str], k: int, end: float) -> list[list[Document]]:
        config, replicas = self.config, self._own_replicas()
        request = {"queries": queries, "topk": k, "return_scores": True}
        body = json.dumps(request, ensure_ascii=False).encode()
        open_at: dict[Replica, float] = {}
        attempt, last = 0, "there was no time to ask"
        while (now := time.monotonic()) < end:
            with replicas.least_loaded(open_at) as replica:
                opens = max(replica.closed_until, open_at.get(replica, 0.0))
                if opens > now:
                    # Asked again after a nap: another may have become free meanwhile.
                    time.sleep(min(opens - now, end - now, 0.25))
                    continue
                attempt += 1
                try:
                    return self._attempt(replica, body, len(queries), k, end)
                except _AttemptError as error:
                    if attempt == 1 or time.monotonic() < end:
                        # Else the deadline cut it: what failed before tells more.
                        last = f"{replica.url}: {error}"
                    if error.disconnected and replica not in open_at:
                        open_at[replica] = 0.0  # a kept connection that the server had given up
                        continue
                    if error.closes:
                        replica.failed(now, error.pause, config.backoff, config.max_backoff)
            wait = wait_before(attempt, config.backoff, config.max_backoff)
            open_at[replica] = time.monotonic() + wait
            level = logging.WARNING if attempt in (1, 10, 100) else logging.DEBUG
            logger.log(level, "attempt %d to search failed: %s", attempt, last)
        raise RetrieverError(
            f"no answer within {config.deadline:g} seconds after {attempt} attempts; last: {last}"
        )

    def _attempt(
        self, replica: Replica, body: bytes, count: int, k: int, end: float
    ) -> list[list[Document]]:
        config = self.config
        end = min(end, time.monotonic() + config.attempt_seconds)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers["Host"] = urlsplit(replica.url).netloc
        if os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {os.environ[TOKEN_VARIABLE]}"
        try:
            status, answered, content = post(
                replica, body, headers, end, config.connect_seconds, config.max_answer_bytes
            )
        except ValueError as error:
            raise _AttemptError(str(error)) from error
        except _TRANSPORT_ERRORS as error:
            disconnected = isinstance(error, _DISCONNECTED)
            text = f"{type(error).__name__}: {error}"
            raise _AttemptError(text, closes=True, disconnected=disconnected) from error
        if status not in _BUSY:
            replica.answered()
        if status != 200:
            _raise_for(status, answered, content, replica.url, count)
        # The published servers send no check: their answers are held to their shape alone.
        check = answered.get(CHECK_HEADER.lower())
        if check is not None and check != check_of(zlib.crc32(body), content):
            raise _AttemptError("the answer to another request, or one changed on its way")
        try:
            return _read_answer(content, count, k)
        except (ValueError, RecursionError) as error:
            raise _AttemptError(f"a wrong answer: {error}") from error


class _AttemptError(Exception):
    """One request failed in a way that may pass."""

    def __init__(
        self,
        text: str,
        *,
        closes: bool = False,
        pause: float | None = None,
        disconnected: bool = False,
    ) -> None:
        super().__init__(text)
        self.closes = closes
        """Others should leave the server alone too, for `pause` seconds where it said so."""
        self.pause = pause
        self.disconnected = disconnected


class _TooManyError(Exception):
    """The server takes no more than `limit` queries in a request."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


_DISCONNECTED = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
_TRANSPORT_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.ConnectionNotAvailable,
    OSError,
)


def _read_answer(content: bytes, count: int, k: int) -> list[list[Document]]:
    """The documents for each query. Raises `ValueError` for what is not an answer to it."""
    answer = json.loads(content)
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, list):
        raise ValueError("no list under 'result'")
    if len(result) != count:
        raise ValueError(f"{len(result)} results for {count} queries")
    for entries in result:
        if not isinstance(entries, list):
            raise ValueError("a result is not a list of documents")
        if len(entries) > k:
            raise ValueError(f"{len(entries)} documents, asked for {k}")
    return [[read_entry(entry) for entry in entries] for entries in result]


def _raise_for(
    status: int, answered: dict[str, str], content: bytes, url: str, count: int
) -> NoReturn:
    try:
        answer = json.loads(content[:4096])
    except (ValueError, RecursionError):
        answer = None
    answer = (
        answer if isinstance(answer, dict) else {"detail": content[:200].decode(errors="replace")}
    )
    detail = " ".join(str(answer.get("detail", answer)).split())[:300]
    limit = answer.get("max_queries")
    if status == 413 and type(limit) is int and 0 < limit < count:
        raise _TooManyError(limit)
    if 300 <= status < 500 and status not in (408, 429):
        raise RetrieverError(f"{url} refused the search ({status}): {detail}")
    pause = _seconds(answered.get("retry-after"))
    raise _AttemptError(f"status {status}: {detail}", closes=status in _BUSY, pause=pause)


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After in seconds says; None for none, or for a date."""
    text = (retry_after or "").strip()
    return min(float(text), 30.0) if text.isascii() and text.isdigit() else None


def _address(url: str) -> str:
    """A checked address with its path. Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8000")
    if parts.username or parts.password or parts.fragment:
        raise ValueError(
            f"an address holds no user, password or fragment; a token: ${TOKEN_VARIABLE}"
        )
    if parts.port == 0:
        raise ValueError(f"{url!r} is not an address with a port to connect to")
    path = "/retrieve" if parts.path in ("", "/") else parts.path
    return parts._replace(path=path).geturl()
