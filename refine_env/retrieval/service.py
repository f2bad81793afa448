"""What a search server does with a request: checks, cache, queue, engine, answer as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refine_env.retrieval.base import Retriever, RetrieverError, search_documents
from refine_env.retrieval.batching import Batcher, FullError, Key, Worker
from refine_env.retrieval.cache import LruCache, normalize_query
from refine_env.retrieval.counters import Counters
from refine_env.retrieval.wire import MAX_QUERIES, MAX_QUERY_CHARS, to_contents

try:
    import msgspec
except ImportError as error:
    raise ImportError(
        "the server needs msgspec, which is not installed: pip install 'refine-env[serve]'"
    ) from error

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where a server listens and how much it takes on. The bearer token that it asks for, if any,
    stands in `$REFINE_ENV_TOKEN`.
    """

    host: str = "127.0.0.1"
    """This machine alone; `"0.0.0.0"` is every network that the machine is in."""
    port: int = 8000
    """0 takes a free one."""
    default_topk: int = 3
    """Documents where a request does not say how many."""
    max_topk: int = 1000
    """Documents for a query."""
    max_queries: int = MAX_QUERIES
    """Queries in a request."""
    max_query_chars: int = MAX_QUERY_CHARS
    """Characters of a query."""
    max_documents: int = 2**16
    """Queries in a request times `topk`: the answer is in memory as a whole."""
    max_body_bytes: int = 64 * 2**20
    """Bytes of a request."""
    max_arriving_bytes: int = 2**28
    """Bytes of requests that have come in part; beyond it requests get a 503 and come again."""
    max_batch: int = 256
    """Queries in one call of the engine."""
    max_waiting: int = 8192
    """Queries that may wait for the engine; beyond it requests get a 503 and come again."""
    max_connections: int = 2048
    """Connections at a time."""
    cache_bytes: int = 2**28
    """Memory for answers; 0 keeps none."""
    body_seconds: float = 30.0
    """A request that takes longer to arrive is dropped."""
    idle_seconds: float = 30.0
    """A connection that brings no request, or takes nothing of its answer, for as long as this is
    closed, at twice as long at the latest."""
    stop_seconds: int = 10
    """How long requests under way may take when the server is told to stop."""

    def __post_init__(self) -> None:
        for name in self.__slots__[1:]:
            least = 0 if name in ("port", "cache_bytes") else 1
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


FIRST_QUERY = "is the index ready"
"""What an engine is asked before its server is ready."""


class _Body(msgspec.Struct):
    """What clients send; other fields are overlooked."""

    queries: list[str] | None = None
    query: str | list[str] | None = None
    """As some clients name it."""
    topk: int | None = None
    return_scores: bool = False


_decode = msgspec.json.Decoder(_Body, strict=False).decode
encode = msgspec.json.Encoder().encode


class Refusal(Exception):
    """A request that is not answered, with what its sender is told."""

    def __init__(self, status: int, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.fields = {"detail": detail} | fields


class Service:
    """An engine, ready or not, with what stands before it: cache, queue and counts."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.retriever: Retriever | None = None
        self.counters = Counters()
        self.cache: LruCache[bytes] = LruCache(config.cache_bytes)
        self.worker = Worker("search")
        self.batcher = Batcher(
            self._search,
            self.worker,
            config.max_batch,
            config.max_waiting,
            lambda size: self.counters.batches.observe(size),
        )
        self.index_id = ""
        self.arriving_bytes = 0

    async def load(self, build: Callable[[], Retriever]) -> None:
        """Build the engine and search once, as the first search of many takes seconds; the server
        answers meanwhile that it is not ready. Raises what building and searching raise.
        """
        retriever = await self.worker.do(build)
        await self.worker.do(lambda: search_documents(retriever, [FIRST_QUERY], 1))
        self.index_id = str(getattr(retriever, "index_id", type(retriever).__name__))
        self.retriever = retriever

    async def answers(self, keys: Sequence[Key]) -> list[bytes]:
        """The documents for each key, as JSON. Raises `Refusal`."""
        found = self._kept(keys)
        missing = [key for key in keys if key not in found]
        self.counters.queries += len(keys)
        self.counters.cache_hits += len(keys) - len(missing)
        self.counters.cache_misses += len(missing)
        if missing:
            try:
                found |= await self.batcher.submit(missing)
            except FullError:
                raise Refusal(503, "the server is busy: too many queries are waiting") from None
            except RetrieverError:
                raise Refusal(500, "the search failed; the server's log says why") from None
        return [found[key] for key in keys]

    def _kept(self, keys: Sequence[Key]) -> dict[Key, bytes]:
        kept = ((key, self.cache.get((self.index_id, key))) for key in keys)
        return {key: answer for key, answer in kept if answer is not None}

    def keys(self, body: bytes) -> list[Key]:
        """What a request asks for. Raises `Refusal`."""
        config = self.config
        try:
            asked = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(400, f"not a request: {str(error)[:200]}") from None
        queries = asked.query if asked.queries is None else asked.queries
        if queries is None:
            raise Refusal(400, "not a request: 'queries' is missing")
        queries = [queries] if isinstance(queries, str) else queries
        if len(queries) > config.max_queries:
            raise Refusal(
                413,
                f"{len(queries)} queries in a request, at most {config.max_queries} are taken",
                max_queries=config.max_queries,
            )
        longest = max(map(len, queries), default=0)
        if longest > config.max_query_chars:
            limit = config.max_query_chars
            raise Refusal(400, f"a query of {longest} characters, at most {limit} are taken")
        k = config.default_topk if asked.topk is None else asked.topk
        if not 1 <= k <= config.max_topk:
            raise Refusal(400, f"topk must be from 1 to {config.max_topk}, got {k}")
        if len(queries) * k > config.max_documents and len(queries) > 1:
            raise Refusal(
                413,
                f"{len(queries)} queries with topk {k}, at most {config.max_documents} documents "
                "are given in an answer",
                max_queries=max(1, config.max_documents // k),
            )
        return [Key(normalize_query(query), k, asked.return_scores) for query in queries]

    def gauges(self) -> dict[str, tuple[str, float]]:
        return {
            "ready": ("1 when the index is loaded.", float(self.retriever is not None)),
            "waiting_queries": ("Queries that wait for the engine.", self.batcher.waiting),
            "cache_entries": ("Answers in the cache.", len(self.cache)),
            "cache_bytes": ("Memory that the cache takes, about.", self.cache.bytes),
        }

    def _search(self, keys: Sequence[Key]) -> list[bytes]:
        """Runs in the worker's thread."""
        assert self.retriever is not None
        queries = list(dict.fromkeys(key.query for key in keys))
        try:
            found = search_documents(self.retriever, queries, keys[0].k)
        except RetrieverError:
            logger.exception("a search of %d queries failed", len(queries))
            raise
        documents = dict(zip(queries, found, strict=True))
        answers = []
        for key in keys:
            entries: list[Any] = []
            for document in documents[key.query]:
                fields = {"id": document.id, "contents": to_contents(document)}
                entries.append(
                    {"document": fields, "score": document.score} if key.scores else fields
                )
            answer = encode(entries)
            self.cache.put((self.index_id, key), answer, len(answer) + len(key.query))
            answers.append(answer)
        return answers
