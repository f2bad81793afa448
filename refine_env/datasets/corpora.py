"""Corpora: passages from a JSONL file, from questions' own paragraphs, or from the caller."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from refine_env.datasets.kept import (
    FileState,
    file_state,
    keep_fingerprint,
    kept_fingerprint,
    kept_store,
    store_place,
)
from refine_env.datasets.passages import PassageStore, build_store, document_hash
from refine_env.datasets.record import Record, RecordErrors
from refine_env.datasets.records import file_key, read_records, undouble_quotes
from refine_env.sharing import ForkLock, SharedCache
from refine_env.types import Document

logger = logging.getLogger(__name__)

STORE_ABOVE = 256_000_000
"""Bytes of text from which a corpus stays on disk; in memory it would take about twice that."""
_PACKED_TO = 3


class Corpus(Sequence[Document]):
    """A sequence of documents that is loaded when it is first read.

    An environment whose retriever brings its own passages never reads it, so that a corpus that
    is missing or large costs nothing there.
    """

    def __init__(
        self,
        source: str,
        load: Callable[[], Iterable[Document]],
        in_memory: bool = False,
        path: Path | None = None,
    ) -> None:
        self.source = source
        """Where the documents come from, for messages."""
        self.path = path
        """The file that they are read from; None where they come from elsewhere."""
        self._in_memory = in_memory
        """Whether `load` reads no file, but only makes the documents of what is in memory."""
        self._load: Callable[[], Iterable[Document]] | None = load
        self._lock = ForkLock()
        self._documents: Sequence[Document] | None = None
        self._state: FileState | None = None
        """That of the file before it was read."""

    @classmethod
    def of(cls, documents: Iterable[Document], source: str = "documents") -> Corpus:
        """A corpus of documents at hand. Raises `ValueError` for an id that occurs twice."""
        kept: Sequence[Document]
        if isinstance(documents, PassageStore):
            kept = documents
        else:
            kept = tuple(documents)
            _check_documents(kept, source)
        corpus = cls(source, lambda: kept)
        corpus._documents = kept
        return corpus

    @property
    def documents(self) -> Sequence[Document]:
        """A tuple; of a large file a `PassageStore`, which reads each passage when asked for it."""
        with self._lock:
            if self._documents is None:
                assert self._load is not None
                self._state = None if self.path is None else file_state(self.path)
                loaded = self._load()
                self._documents = loaded if isinstance(loaded, PassageStore) else tuple(loaded)
                self._load = None  # with what it made them of
            return self._documents

    @property
    def store(self) -> PassageStore | None:
        """The documents where they are on disk; None where they are in memory."""
        return self.documents if isinstance(self.documents, PassageStore) else None

    @property
    def is_loaded(self) -> bool:
        """Whether reading the documents reads no file."""
        return self._in_memory or self._documents is not None

    @cached_property
    def fingerprint(self) -> str:
        """A hash of ids, titles and texts; the order of the documents takes no part."""
        if self.store is not None:
            return self.store.fingerprint
        return f"{sum(map(document_hash, self.documents)) % 2**128:032x}"

    def known_fingerprint(self) -> str | None:
        """The fingerprint where that takes no reading of the file, else None."""
        if self._documents is not None:
            return self.fingerprint
        if self.path is None:
            return None
        store = kept_store(self.path) if self.is_large else None
        return kept_fingerprint(self.path) if store is None else store.fingerprint

    def kept_fingerprint(self) -> str:
        """The fingerprint; that of a file is kept in the cache, so that it is read for it once."""
        found = self.known_fingerprint() or self.fingerprint
        if self.path is not None and self._state is not None:
            keep_fingerprint(self.path, found, self._state)
        return found

    @property
    def is_large(self) -> bool:
        """Whether it is a file that is to stay on disk: to read it all takes minutes."""
        return self.path is not None and text_bytes(self.path) > STORE_ABOVE

    def first(self, count: int) -> list[Document]:
        """The first documents; of a file that has not been read, no more of it is."""
        if self._documents is not None or self.path is None:
            return list(self.documents[:count])
        errors = RecordErrors()
        found = list(itertools.islice(_documents(self.path, errors), count))
        errors.raise_if_any()
        return [document for _, document in found]

    def in_id_order(self) -> Sequence[Document]:
        """The documents sorted by their ids; those of a store stay on disk."""
        if self.store is not None:
            return Reordered(self.store, self.store.id_order())
        return sorted(self.documents, key=lambda document: document.id)

    def __len__(self) -> int:
        return len(self.documents)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        return self.documents[index]

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __repr__(self) -> str:
        return f"Corpus({self.source})"


def as_corpus(corpus: str | Path | Iterable[Document] | None) -> Corpus | None:
    """A `Corpus` of a file's path or of documents; None stays None."""
    if corpus is None or isinstance(corpus, Corpus):
        return corpus
    if isinstance(corpus, str | Path):
        return open_corpus(corpus)
    return Corpus.of(corpus)


_corpora: SharedCache[Corpus] = SharedCache(keep=2)


def open_corpus(path: str | Path) -> Corpus:
    """The corpus of a file, shared within the process as long as the file does not change.

    The file is read when a document is first asked for. Raises `FileNotFoundError`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no corpus file {path}")
    return _corpora.get(
        file_key(path), lambda: Corpus(str(path), lambda: load_corpus(path), path=path)
    )


def load_corpus(path: str | Path) -> Sequence[Document]:
    """The documents of a JSONL file, gzip too: a tuple, of a large file a `PassageStore`.

    A line is `{"id", "title", "text"}` or `{"id", "contents"}` with the title, in double quotes or
    not, on the first line of the contents. The store is made once and kept in the cache. Raises
    `FileNotFoundError`, and `ValueError` with file and line for malformed lines and for ids that
    occur twice.
    """
    path = Path(path).expanduser()
    if text_bytes(path) > STORE_ABOVE:
        return _stored(path)
    errors = RecordErrors()
    first_lines: dict[str, int] = {}
    documents: list[Document] = []
    for number, document in _documents(path, errors):
        first = first_lines.setdefault(document.id, number)
        if first == number:
            documents.append(document)
        else:
            errors.add(
                f"{path}:{number}", f"the id {document.id!r:.80} is already at {path}:{first}"
            )
    errors.raise_if_any()
    if not documents:
        raise ValueError(f"{path} holds no documents")
    logger.info("read %d documents from %s", len(documents), path)
    return tuple(documents)


def _documents(path: Path, errors: RecordErrors) -> Iterator[tuple[int, Document]]:
    for record in read_records(path, errors):
        try:
            yield record.number, _read_document(record)
        except ValueError as error:
            errors.add(record.place, str(error))


def text_bytes(path: Path) -> int:
    """The size of a file's text; of a packed one a guess."""
    return path.stat().st_size * (_PACKED_TO if path.suffix == ".gz" else 1)


def _stored(path: Path) -> PassageStore:
    """The store of a file, made again when the file has changed."""
    before = kept_store(path)
    if before is not None:
        return before
    folder, source = store_place(path)
    logger.warning("%s is large: its passages are stored once in %s", path, folder)
    errors = RecordErrors()

    def documents() -> Iterator[Document]:
        from tqdm.auto import tqdm

        read = (document for _, document in _documents(path, errors))
        yield from tqdm(read, desc=path.name, unit=" passages", mininterval=0.5, disable=None)
        errors.raise_if_any()

    return build_store(folder, documents(), source)


class Reordered(Sequence[Document]):
    """Documents of a store in another order."""

    def __init__(self, store: PassageStore, places: NDArray[np.integer[Any]]) -> None:
        self.store = store
        self.places = places
        """Of each document the place in the store."""
        self._places = places.data  # a single element of a view is read much faster

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return Reordered(self.store, self.places[index])
        return self.store[self._places[index]]


def _read_document(record: Record) -> Document:
    fields = record.fields
    document_id = fields.get("id", fields.get("_id"))
    if isinstance(document_id, int) and not isinstance(document_id, bool):
        document_id = str(document_id)
    if not isinstance(document_id, str) or not document_id:
        raise ValueError(f"'id' must be a string or a whole number, got {document_id!r:.80}")
    if "contents" in fields and "text" not in fields:
        title, _, text = _string(fields, "contents").partition("\n")
        if len(title) >= 2 and title[0] == title[-1] == '"':
            title = undouble_quotes(title[1:-1])
        return Document(document_id, title, text)
    if "text" not in fields:
        raise ValueError(f"neither 'text' nor 'contents' among the keys {sorted(fields)}")
    title = _string(fields, "title") if fields.get("title") is not None else ""
    return Document(document_id, title, _string(fields, "text"))


def _string(fields: dict[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a string, got {value!r:.80}")
    return value


def _check_documents(documents: Sequence[Document], source: str) -> None:
    seen: set[str] = set()
    for document in documents:
        if not isinstance(document, Document):
            raise TypeError(f"{source}: a corpus holds Document objects, got {document!r:.80}")
        if document.id in seen:
            raise ValueError(f"{source}: two documents have the id {document.id!r}")
        seen.add(document.id)
