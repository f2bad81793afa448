"""Files of records: JSON, JSONL, TSV, CSV, Parquet, each with gzip, read one record at a time."""

from __future__ import annotations

import gzip
import io
import json
import mmap
import re
import tarfile
import zlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from refine_env.datasets.record import Record, RecordErrors, kind_of, place_of
from refine_env.datasets.tables import parquet_rows, table_rows

_CHUNK_CHARS = 1 << 20
_PAGES_EVERY = 2000
Decode = Callable[[str | msgspec.Raw], Any]
_BETWEEN = re.compile(r"[\s,]*")


def file_key(path: Path) -> Hashable:
    """What changes when a file does: its resolved path, time of change and size."""
    stat = path.stat()
    return str(path.resolve()), stat.st_mtime_ns, stat.st_size


def undouble_quotes(text: str) -> str:
    """`text` with `""` as `"`, as CSV means it; unchanged where a quote stands alone."""
    undoubled = text.replace('""', '"')
    return undoubled if '"' not in text.replace('""', "") else text


def read_records(
    path: Path, errors: RecordErrors, shape: type[msgspec.Struct] | None = None
) -> Iterator[Record]:
    """The records of a file; broken ones go to `errors`.

    A JSON record that has the given `shape` comes as such an object, its types then being checked;
    any other comes as a dictionary. Raises `FileNotFoundError`, `ValueError` for a file that cannot
    be read at all, `ImportError` for Parquet without pyarrow.
    """
    decode = _decoder(shape)
    kind = kind_of(path)
    if kind == ".parquet":
        yield from parquet_rows(path)
        return
    try:
        with _open_text(path) as stream:
            if kind in (".tsv", ".csv"):
                yield from table_rows(path, stream, errors, "\t" if kind == ".tsv" else ",")
            elif _enters_array(stream):
                mapping = _map(path)
                elements = None if mapping is None else _elements(mapping)
                if mapping is None or elements is None:
                    yield from _json_array(path, stream, errors)
                else:
                    yield from _mapped_array(path, mapping, elements, errors, decode)
            else:
                yield from _json_lines(path, stream, errors, decode)
    except (
        UnicodeDecodeError,
        EOFError,
        gzip.BadGzipFile,
        tarfile.TarError,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _open_text(path: Path) -> TextIO:
    stream = path.open("rb")
    binary: Any = stream
    if stream.read(2) == b"\x1f\x8b":
        stream.seek(0)
        binary = gzip.GzipFile(fileobj=stream)
    else:
        stream.seek(0)
    binary = _inside_tar(path, binary)
    # No newline translation: csv wants none, and JSON strings never hold a raw line break.
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")


def _inside_tar(path: Path, binary: Any) -> Any:
    """The first file of a tar archive, or `binary` itself where it is none.

    The published `wiki-18.jsonl.gz` is, despite its name, a compressed tar archive. Nothing is
    unpacked: the file is read where it lies. Raises `ValueError` when no file comes first.
    """
    head = binary.read(tarfile.BLOCKSIZE)
    binary.seek(0)
    if head[257:262] != b"ustar":
        return binary
    archive = tarfile.open(fileobj=binary, mode="r:")  # noqa: SIM115 (it is read by the caller)
    first = archive.next()
    inside = archive.extractfile(first) if first is not None and first.isreg() else None
    if inside is None:
        raise ValueError(f"{path} is a tar archive that does not begin with a file")
    return inside


def _enters_array(stream: TextIO) -> bool:
    """Whether the first character that is no white space is `[`.

    The stream is then behind it, else at its start.
    """
    character = " "
    while character.isspace():
        character = stream.read(1)
    if character != "[":
        stream.seek(0)
    return character == "["


def _json_lines(
    path: Path, stream: TextIO, errors: RecordErrors, decode: Decode
) -> Iterator[Record]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            value = decode(line)
        except (ValueError, RecursionError) as error:
            if number == 1 and kind_of(path) == ".json":
                stream.seek(0)
                yield from _json_object(path, stream, errors)
                return
            errors.add(place_of(path, number), f"not JSON: {error}")
            continue
        yield from _objects(path, _listed(value) or [value], errors, number)


def _json_object(path: Path, stream: TextIO, errors: RecordErrors) -> Iterator[Record]:
    """A file of one object over several lines: a record, or a list of them in `Data`."""
    try:
        value = json.load(stream)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is neither JSON nor JSON lines: {error}") from error
    yield from _objects(path, _listed(value) or [value], errors, 1)


def _listed(value: Any) -> list[Any] | None:
    """The records of an object that only wraps a list of them, as TriviaQA's files do."""
    if isinstance(value, dict) and "question" not in value:
        listed = value.get("Data", value.get("data"))
        return listed if isinstance(listed, list) else None
    return None


def _objects(path: Path, values: list[Any], errors: RecordErrors, first: int) -> Iterator[Record]:
    for number, value in enumerate(values, start=first):
        if isinstance(value, (dict, msgspec.Struct)):
            yield Record(path, number, value)
        else:
            errors.add(place_of(path, number), f"not a JSON object but {value!r:.60}")


def _map(path: Path) -> mmap.mmap | None:
    """The bytes of a file that is not packed, mapped."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return None
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _elements(mapping: mmap.mmap) -> list[msgspec.Raw] | None:
    """The elements of a whole JSON array, not yet parsed, where they lie in the mapping.

    None where it is anything else: reading it piece by piece then says what is wrong, and where.
    """
    try:
        return msgspec.json.decode(mapping, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return None


def _mapped_array(
    path: Path,
    mapping: mmap.mmap,
    elements: list[msgspec.Raw],
    errors: RecordErrors,
    decode: Decode,
) -> Iterator[Record]:
    for number, element in enumerate(elements, start=1):
        if number % _PAGES_EVERY == 1 and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)  # what was read need not stay in memory
        try:
            value = decode(element)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            errors.add(place_of(path, number), f"not JSON: {error}")
            continue
        yield from _objects(path, [value], errors, number)


_fast = msgspec.json.Decoder()


def _decoder(shape: type[msgspec.Struct] | None) -> Decode:
    """What parses a record: as `shape` where it has that one, else as it is."""
    if shape is None:
        return _decode
    shaped = msgspec.json.Decoder(shape)

    def decode(text: str | msgspec.Raw) -> Any:
        try:
            return shaped.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return _decode(text)

    return decode


def _decode(text: str | msgspec.Raw) -> Any:
    """JSON as a value. Raises as `json.loads` does, which also reads what msgspec refuses: NaN and
    surrogates that stand alone. A number of thousands of digits is a plain `ValueError`.
    """
    try:
        return _fast.decode(text)
    except msgspec.DecodeError:
        return json.loads(text if isinstance(text, str) else bytes(text))


def _json_array(path: Path, stream: TextIO, errors: RecordErrors) -> Iterator[Record]:
    """The objects of a JSON array behind its `[`, parsed one by one as the file is read."""
    decode = json.JSONDecoder().raw_decode
    text, position, number, chunk = "", 0, 0, _CHUNK_CHARS
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith("]", position):
            return
        value, end, failure = None, len(text), None
        try:
            value, end = decode(text, position)
        except (ValueError, RecursionError) as error:
            failure = error
        # A value that touches the end of what was read may go on: read more and parse it again.
        if end == len(text):
            more = stream.read(chunk)
            if more:
                text, position, chunk = text[position:] + more, 0, chunk * 2
                continue
            if failure:
                raise ValueError(f"{path}, record {number + 1}: broken JSON: {failure}")
        number, position, chunk = number + 1, end, _CHUNK_CHARS
        yield from _objects(path, [value], errors, number)
