"""Answers of a search engine kept: in memory, and in a SQLite file that processes share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from refine_env.retrieval.base import Retriever, check_search, search_documents
from refine_env.sharing import ForkLock
from refine_env.types import Document

logger = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, int]
"""A normalised query and how many documents were asked for."""

_APPLICATION = 0x52465131  # in the file's header: it is ours
_CHECKSUM = 16  # hexadecimal digits
_ENTRY_BYTES = 200  # about what an entry costs besides its contents


def normalize_query(query: str) -> str:
    """The query with white space folded; case and accents matter to some engines."""
    return " ".join(query.split())


class LruCache(Generic[T]):
    """What was asked for last, as much as fits into `max_bytes`. For threads and forks."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = ForkLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep `value` of about `size` bytes, unless it alone is more than fits."""
        size += _ENTRY_BYTES
        with self._lock:
            if key in self._entries:
                self.bytes -= self._entries.pop(key)[1]
            if size > self.max_bytes:
                return
            self._entries[key] = (value, size)
            self.bytes += size
            while self.bytes > self.max_bytes:
                self.bytes -= self._entries.popitem(last=False)[1][1]


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How much is kept, and where."""

    max_bytes: int = 2**28
    """Memory for answers, about; the least recently used go first."""
    path: str | Path | None = None
    """SQLite file that processes share; None keeps answers in memory alone. Not on a network
    file system, where SQLite's locks do not hold."""
    max_entries: int = 1_000_000
    """Answers in the file; the oldest go first."""
    index_id: str | None = None
    """Names what is searched, so that answers of one index never serve another. Needed with a
    `path` for engines without an `index_id` of their own."""


@dataclass(slots=True)
class CacheCounts:
    """Queries since the cache was made, in this process."""

    hits: int = 0
    """Found in memory."""
    disk_hits: int = 0
    """Found in the file."""
    misses: int = 0
    """Asked of the engine."""


class CachedRetriever:
    """A search engine whose answers are kept. Failures never are.

    Queries that differ only in white space are one. Raises `ValueError` for a file that is no
    cache of ours, or a `path` without a name for the index.
    """

    def __init__(self, retriever: Retriever, config: CacheConfig | None = None) -> None:
        self.retriever = retriever
        self.config = config or CacheConfig()
        self.counts = CacheCounts()
        found = self.config.index_id or getattr(retriever, "index_id", None)
        self._memory: LruCache[tuple[Document, ...]] = LruCache(self.config.max_bytes)
        self._file: AnswerFile | None = None
        if self.config.path is not None:
            if not isinstance(found, str):
                raise ValueError(
                    f"{type(retriever).__name__} does not say which index it searches: name it "
                    "with CacheConfig(index_id=...), and anew whenever the index changes"
                )
            self._file = AnswerFile(Path(self.config.path), found, self.config.max_entries)
        if isinstance(found, str):
            self.index_id = found

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedRetriever, (self.retriever, self.config)

    def search(self, queries: Sequence[str], k: int) -> list[list[Document]]:
        """One search of the engine, for those queries alone that are not at hand."""
        queries, k = check_search(queries, k)
        keys = [(normalize_query(query), k) for query in queries]
        found: dict[Key, tuple[Document, ...]] = {}
        for key in dict.fromkeys(keys):
            answer = self._memory.get(key)
            if answer is not None:
                found[key] = answer
        hits = sum(key in found for key in keys)
        on_disk = self._from_file([key for key in dict.fromkeys(keys) if key not in found])
        found |= on_disk
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            answers = search_documents(self.retriever, [query for query, _ in missing], k)
            new = dict(zip(missing, answers, strict=True))
            found |= new
            self._keep(new)
            if self._file is not None:
                self._file.put(new)
        self.counts.hits += hits
        self.counts.disk_hits += sum(key in on_disk for key in keys)
        self.counts.misses += len(missing)
        return [list(found[key]) for key in keys]

    def _from_file(self, keys: list[Key]) -> dict[Key, tuple[Document, ...]]:
        if self._file is None or not keys:
            return {}
        found = self._file.get(keys)
        self._keep(found)
        return found

    def _keep(self, answers: dict[Key, tuple[Document, ...]]) -> None:
        for key, documents in answers.items():
            size = sum(len(document.text) + len(document.title) + 200 for document in documents)
            self._memory.put(key, documents, size + len(key[0]))


class AnswerFile:
    """Answers in SQLite, as JSON. Any number of processes and threads may use one file.

    An answer that cannot be read or written costs a search and no more: it is logged, once.
    """

    def __init__(self, path: Path, index_id: str, max_entries: int) -> None:
        self.path = path
        self._index_id = index_id
        self._max_entries = max_entries
        self._local = threading.local()
        self._inherited: list[sqlite3.Connection] = []
        self._warned = False
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} cannot be used as a cache: {error}") from error

    def get(self, keys: Iterable[Key]) -> dict[Key, tuple[Document, ...]]:
        """Those of the answers that are there."""
        found: dict[Key, tuple[Document, ...]] = {}
        try:
            connection = self._open()
            for key in keys:
                sql = "SELECT documents FROM answers WHERE index_id = ? AND query = ? AND k = ?"
                row = connection.execute(sql, self._row(key)).fetchone()
                if row is not None:
                    found[key] = _unpacked(key, row[0])
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._warn(error)
        return found

    def put(self, answers: dict[Key, tuple[Document, ...]]) -> None:
        rows = [(*self._row(key), _packed(key, documents)) for key, documents in answers.items()]
        oldest = "(SELECT max(rowid) FROM answers) - ?"
        try:
            with self._open() as connection:
                connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
                connection.execute(
                    f"DELETE FROM answers WHERE rowid <= {oldest}",  # noqa: S608 (no input in it)
                    (self._max_entries,),
                )
        except sqlite3.Error as error:
            self._warn(error)

    def _row(self, key: Key) -> tuple[str, str, int]:
        query, k = key
        return self._index_id, json.dumps(query), k  # JSON: SQLite takes no lone surrogates

    def _open(self) -> sqlite3.Connection:
        """The connection of this thread in this process."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            return connection
        if connection is not None:
            self._inherited.append(connection)  # closing it would let go of the parent's locks
        connection = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False)
        try:
            _prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._local.connection, self._local.pid = connection, os.getpid()
        return connection

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("%s does not work, searching without it: %s", self.path, error)


def _packed(key: Key, documents: Iterable[Document]) -> str:
    """The answer as JSON behind a checksum of it and of the query: SQLite has none."""
    text = json.dumps([(d.id, d.title, d.text, d.score) for d in documents])
    return _checksum(key, text) + text


def _unpacked(key: Key, packed: Any) -> tuple[Document, ...]:
    """Raises `ValueError` for what `_packed` did not write for this query."""
    checksum, text = str(packed)[:_CHECKSUM], str(packed)[_CHECKSUM:]
    if checksum != _checksum(key, text):
        raise ValueError("an answer is not what was written")
    return tuple(Document(*fields) for fields in json.loads(text))


def _checksum(key: Key, text: str) -> str:
    content = f"{json.dumps(key)}{text}".encode()
    return hashlib.blake2b(content, digest_size=_CHECKSUM // 2).hexdigest()


def _prepare(connection: sqlite3.Connection) -> None:
    # In this order: another process may be making the table at this moment.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION and tables:
        raise sqlite3.DatabaseError("it is a database of another program")
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if application == _APPLICATION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (index_id TEXT, query TEXT, k INTEGER, "
            "documents TEXT, UNIQUE (index_id, query, k))"
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the log; SQLite does not wait by itself where two processes do it at once."""
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.05)
