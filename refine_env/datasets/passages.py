"""Large corpora on disk: passages read from a memory-mapped file when they are asked for.

A store is a folder made once of a JSONL file: `text` (one `[id, title, text]` a line), the offset
of every line, and for ids and titles the sorted hashes with their places, so that neither a list of
documents nor a dictionary of ids is ever in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from refine_env.files import naming, replace_folder, scratch_folder
from refine_env.types import Document

logger = logging.getLogger(__name__)

FORMAT = 1
_ID = re.compile(rb'\["((?:[^"\\]|\\.)*)"')
_decode = msgspec.json.Decoder(tuple[str, str, str]).decode
_AT_ONCE, _WIDEST = 100_000, 64
MANIFEST = "manifest.json"
CHECKED_BYTES = 64_000_000
"""Size of a store or an index up to which the contents of its files are checked whenever it is
opened, which takes about a tenth of a second. Of a larger one only the sizes are."""


class PassageStore(Sequence[Document]):
    """The documents of a store, by place, by id and by title. Nothing is kept in memory."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        with (folder / "text").open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # A view: a single element of one is read several times faster than of an array.
        self._offsets = map_array(folder / "offsets.npy").data
        self._by_key = {
            name: (
                map_array(folder / f"{name}.hashes.npy"),
                map_array(folder / f"{name}.places.npy"),
            )
            for name in ("ids", "titles")
        }

    @property
    def fingerprint(self) -> str:
        """As `Corpus.fingerprint` of the same documents."""
        return str(self.manifest["fingerprint"])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Document, ...]: ...
    def __getitem__(self, index: int | slice) -> Document | tuple[Document, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        line = self._text[self._offsets[index] : self._offsets[index + 1]]
        try:
            document_id, title, text = _decode(line)
        except (UnicodeDecodeError, msgspec.DecodeError):
            document_id, title, text = self._unusual(index, line)
        return Document(document_id, title, text)

    def _unusual(self, index: int, line: bytes) -> list[str]:
        """A line with a lone surrogate in it. Raises `ValueError` for one that is none."""
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not (isinstance(fields, list) and [type(field) for field in fields] == 3 * [str]):
            raise ValueError(f"{self.folder} is damaged: passage {index} cannot be read; remove it")
        return fields

    def __iter__(self) -> Iterator[Document]:
        return (self[place] for place in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.folder,)

    def by_id(self, document_id: str) -> Document:
        """Raises `KeyError` for an unknown id."""
        for place in self._places("ids", document_id):
            if self[place].id == document_id:
                return self[place]
        raise KeyError(document_id)

    def by_title(self, title: str) -> list[Document]:
        """The passages of a title, white space at its ends left out, in their order."""
        found = (self[place] for place in sorted(self._places("titles", title)))
        return [document for document in found if document.title.strip() == title]

    def id_order(self) -> NDArray[np.int64]:
        """The places of the documents in the order of their ids, sorted as strings.

        Up to 64 bytes a passage are in memory; where an id is longer, all ids are.
        """
        parts: list[NDArray[np.bytes_]] = []
        for start in range(0, len(self), _AT_ONCE):
            ids = self._ids(start, min(start + _AT_ONCE, len(self)))
            # An array of bytes knows no zeros at the end, and is as wide as the longest of them.
            if any(len(name) > _WIDEST or name.endswith(b"\0") for name in ids):
                all_ids = self._ids(0, len(self))
                return np.array(sorted(range(len(self)), key=all_ids.__getitem__), np.int64)
            parts.append(np.array(ids))
        return np.argsort(np.concatenate(parts), kind="stable")

    def _ids(self, start: int, stop: int) -> list[bytes]:
        """The ids of consecutive documents; of UTF-8 the order is that of the characters."""
        found = []
        for offset in self._offsets[start:stop]:
            match = _ID.match(self._text, offset)
            assert match is not None
            name = match[1]
            if b"\\" in name:
                name = json.loads(b'"%b"' % name).encode("utf-8", "surrogatepass")
            found.append(name)
        return found

    def cuts(self, size: int) -> list[int]:
        """Places that cut the store into pieces of about `size` bytes, 0 and the end included."""
        offsets = np.asarray(self._offsets)
        pieces = max(1, round(int(offsets[-1]) / size))
        wanted = np.arange(1, pieces) * (int(offsets[-1]) / pieces)
        between = np.searchsorted(offsets, wanted).tolist()
        return sorted({0, *between, len(self)})

    def _places(self, name: str, key: str) -> list[int]:
        hashes, places = self._by_key[name]
        wanted = _hash(key)
        start, stop = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
        found: list[int] = places[start:stop].tolist()
        return found


def open_store(folder: Path, check: bool = True) -> PassageStore:
    """Open a store. Raises `ValueError` where its files are not those of its manifest.

    Without `check` the contents of a small store's files are not looked at.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in manifest["files"]}
        if manifest["format"] != FORMAT or sizes != manifest["files"]:
            raise ValueError("its files are not those of its manifest")
        if check and sum(sizes.values()) <= CHECKED_BYTES:
            check_contents(folder, manifest)
        store = PassageStore(folder, manifest)
        if len(store) != manifest["count"]:
            raise ValueError(f"it holds {len(store)} passages, not {manifest['count']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is no whole passage store ({error}); remove it") from error
    return store


def check_contents(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a file whose contents are not those of the manifest's checksums.

    A manifest of an earlier program has none.
    """
    checksums = manifest.get("checksums", {})
    for name in manifest["files"]:
        if name in checksums and checksum(folder / name) != checksums[name]:
            raise ValueError(f"{name} is not what was written")


def checksum(path: Path) -> str:
    """A hash of all of a file; a gigabyte takes about two seconds."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def build_store(
    folder: Path, documents: Iterable[Document], source: dict[str, Any] | None = None
) -> PassageStore:
    """Write a store beside its place, then move it there: it is whole or not there.

    Raises `ValueError` for no documents, and for an id that occurs twice; an `OSError` where it
    cannot be written, on a full disk for instance, names the folder or a file in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), scratch_folder(folder) as scratch:
        new = scratch / "new"
        new.mkdir()
        fingerprint = _write(new, documents)
        files = {path.name: path.stat().st_size for path in sorted(new.iterdir())}
        manifest = {
            "format": FORMAT,
            "count": len(map_array(new / "offsets.npy")) - 1,
            "fingerprint": fingerprint,
            "source": source or {},
            "files": files,
            "checksums": {name: checksum(new / name) for name in files},
        }
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        # What is there is of another source, damaged, or made by another process meanwhile.
        replace_folder(new, folder)
    logger.info("%d passages in %s", manifest["count"], folder)
    return open_store(folder)


def _write(folder: Path, documents: Iterable[Document]) -> str:
    """Text, offsets and keys; the fingerprint. Eight bytes a passage for each are in memory."""
    offsets, ids, titles = array("q", [0]), array("q"), array("q")
    total = 0
    with (folder / "text").open("wb", buffering=1 << 20) as text:
        for document in documents:
            line = _line((document.id, document.title, document.text))
            text.write(line)
            offsets.append(offsets[-1] + len(line))
            ids.append(_hash(document.id))
            titles.append(_hash(document.title.strip()))
            total += document_hash(document)
    if not ids:
        raise ValueError("there are no documents")
    np.save(folder / "offsets.npy", np.frombuffer(offsets, np.int64))
    for name, hashes in (("ids", ids), ("titles", titles)):
        values = np.frombuffer(hashes, np.int64)
        order = np.argsort(values, kind="stable")
        np.save(folder / f"{name}.hashes.npy", values[order])
        np.save(folder / f"{name}.places.npy", order.astype(np.int32))
        if name == "ids":
            _check_ids(folder, values[order], order)
    return f"{total % 2**128:032x}"


def _line(fields: tuple[str, str, str]) -> bytes:
    try:
        return msgspec.json.encode(fields) + b"\n"
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _check_ids(folder: Path, hashes: NDArray[np.int64], order: NDArray[np.int64]) -> None:
    """Raise `ValueError` for an id that occurs twice: among those of one hash."""
    offsets = map_array(folder / "offsets.npy")
    seen: set[str] = set()
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    with (folder / "text").open("rb") as text:
        for place in np.unique(np.concatenate((order[same], order[same + 1]))).tolist():
            text.seek(int(offsets[place]))
            document_id = json.loads(text.readline())[0]
            if document_id in seen:
                raise ValueError(f"two documents have the id {document_id!r}")
            seen.add(document_id)


def document_hash(document: Document) -> int:
    """What a document adds to the fingerprint of its corpus."""
    digest = hashlib.blake2b(digest_size=16)
    for field in (document.id, document.title, document.text):
        encoded = field.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "little")


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def map_array(path: Path) -> NDArray[Any]:
    """A saved array, memory-mapped. Raises `ValueError` and `OSError`; never unpickles."""
    # As a plain array over the mapping: slicing np.memmap itself is many times slower.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
