"""Episodes as JSON, and files of them: one episode a line, versioned, appended durably.

A file that grows is plain text (`append_episode`), so that a crash costs its last line at most. A
finished one may be packed (`save_episodes` with a name that ends in `.gz`); `load_episodes` reads
both.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from refine_env.files import append_whole, whole_file
from refine_env.protocols import Protocol
from refine_env.tags import Tags
from refine_env.types import Document, Episode, Limits, Question, StopReason, Turn

try:
    import fcntl
except ImportError:  # not on Windows; there, let one process alone write to a file
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

VERSION = 1
_START = b'{"version": '
"""How every line begins; so a line that a crash cut short can be told from a foreign file."""
_KEYS = {"version", "question", "protocol", "limits", "stop_reason", "turns"}
_GZIP = b"\x1f\x8b"

EPISODE_FILES = ("episodes.jsonl", "episodes.jsonl.gz")
"""How the episodes of a run are named in its folder."""

# A surrogate that stands alone can be escaped in JSON. A high one before a low one cannot: the two
# escapes would be read as one character. Such a pair is written as it is.
_LONE_SURROGATE = re.compile(
    "(?<![\ud800-\udbff])[\udc00-\udfff]|[\ud800-\udbff](?![\udc00-\udfff])"
)


def episode_to_json(episode: Episode) -> str:
    """One line of JSON that `episode_from_json` turns into an equal episode.

    The metadata of the question has to be JSON-able (tuples in it come back as lists). Raises
    `TypeError` where it is not.
    """
    data = {
        "version": VERSION,
        "question": asdict(episode.question),
        "protocol": asdict(episode.protocol),
        "limits": asdict(episode.limits),
        "stop_reason": str(episode.stop_reason),
        "turns": [asdict(turn) for turn in episode.turns],
    }
    text = json.dumps(data, ensure_ascii=False, default=_plain)
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def episode_from_json(text: str) -> Episode:
    """The episode of one line. Raises `ValueError` for what is no episode or of another version."""
    return _episode(json.loads(text))


def _episode(data: Any) -> Episode:
    if not isinstance(data, dict) or "version" not in data:
        raise ValueError("not an episode: it has no version")
    if data["version"] != VERSION:
        raise ValueError(f"episode of version {data['version']!r}; this program reads {VERSION}")
    try:
        protocol = dict(data["protocol"])
        return Episode(
            question=_build(Question, data["question"]),
            protocol=_build(Protocol, protocol | {"tags": _build(Tags, protocol["tags"])}),
            turns=tuple(_turn(turn) for turn in data["turns"]),
            stop_reason=StopReason(data["stop_reason"]),
            limits=_build(Limits, data["limits"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a whole episode: {type(error).__name__}: {error}") from error


def append_episode(path: str | Path, episode: Episode) -> None:
    """Add the episode to a file of episodes, and return only when it is on the disk.

    One write of a whole line, so that several processes may append to one file. What a crash left
    of an earlier line is removed first. Raises `ValueError` when the file holds something else, or
    is to be a packed one: those are written whole, by `save_episodes`.
    """
    path = Path(path)
    if path.suffix == ".gz":
        raise ValueError(f"{path}: episodes are appended to a plain file; save_episodes packs one")
    line = _line(episode)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file, _locked(file):
        _remove_torn_line(path, file)
        append_whole(file, line)
        os.fsync(file.fileno())


def save_episodes(path: str | Path, episodes: Iterable[Episode]) -> int:
    """Write a whole file of episodes, packed if its name ends in `.gz`, and return their number.

    The file is there whole or not at all: it is written beside its place and moved there at the
    end, over an older one. Equal episodes give equal bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with whole_file(path) as file:
        packed = path.suffix == ".gz"
        # No name and no time in the header: equal episodes give equal bytes.
        target = gzip.GzipFile("", "wb", 6, file, mtime=0) if packed else file
        for episode in episodes:
            target.write(_line(episode))
            number += 1
        if packed:
            target.close()
    return number


def find_episodes(run: str | Path) -> Path:
    """The file of episodes of a run's folder; `run` itself where it is a file.

    Raises `FileNotFoundError` where there is none, `ValueError` where there are two.
    """
    run = Path(run)
    if run.is_file():
        return run
    found = [run / name for name in EPISODE_FILES if (run / name).is_file()]
    if not found:
        missing = f"it holds no {' or '.join(EPISODE_FILES)}" if run.is_dir() else "it is not there"
        raise FileNotFoundError(f"no episodes in {run}: {missing}")
    if len(found) > 1:
        raise ValueError(f"{run} holds both {' and '.join(EPISODE_FILES)}: name the file")
    return found[0]


def load_episodes(path: str | Path) -> Iterator[Episode]:
    """The episodes of a file, plain or packed, in order.

    A last line that a crash cut short, or whatever of it a broken-off packed file still gives, is
    left out and logged. Raises `ValueError` with the line's number for any other line that is not
    an episode, and for a file of something else.
    """
    return (episode for episode, _ in load_entries(path))


def load_entries(path: str | Path) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """As `load_episodes`, each episode with what the writing program added to its line.

    An evaluation adds `evaluation`: environment, context, seed, and what it measured.
    """
    for number, line in enumerate(_read_lines(Path(path)), start=1):
        if not line.endswith(b"\n"):
            if not line.startswith(_START[: len(line)]):
                raise ValueError(f"{path} is not a file of episodes")
            logger.warning("%s:%d is cut short and left out", path, number)
            return
        try:
            data = json.loads(line.decode("utf-8", "surrogatepass"))
            yield _episode(data), {name: data[name] for name in data.keys() - _KEYS}
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error


def _read_lines(path: Path) -> Iterator[bytes]:
    """The lines; "" after them where a packed file breaks off between two."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            yield from file
            return
        try:
            yield from cast(IO[bytes], gzip.GzipFile(fileobj=file))
        except EOFError:
            yield b""
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from error


def _line(episode: Episode) -> bytes:
    return (episode_to_json(episode) + "\n").encode("utf-8", "surrogatepass")


def _turn(data: dict[str, Any]) -> Turn:
    documents = tuple(_build(Document, document) for document in data["documents"])
    return _build(Turn, data | {"documents": documents})


def _build(kind: Any, data: dict[str, Any]) -> Any:
    """An instance of the dataclass `kind`, all of whose fields must be there, and no others."""
    names = {item.name for item in fields(kind)}
    if set(data) != names:
        wrong = ", ".join(sorted(names ^ set(data)))
        raise TypeError(f"the keys of a {kind.__name__} are not as expected: {wrong}")
    return kind(**data)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):  # many engines score in NumPy's floats
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Keep other processes from taking a line that is being written for a torn one."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
    yield


def _remove_torn_line(path: Path, file: IO[bytes]) -> None:
    size = end = file.seek(0, os.SEEK_END)
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - 65536)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return
    if not torn.startswith(_START[: len(torn)]):
        raise ValueError(f"{path} is not a file of episodes")
    file.truncate(size - len(torn))
    logger.warning("%s: removed a last line that was cut short", path)
