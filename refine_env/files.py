"""Writing files and folders that a crash or a full disk leaves whole."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows; there, what killed processes left stays
    fcntl = None  # type: ignore[assignment]


DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO".split()
    if hasattr(errno, name)
)
"""What a disk says that takes no more; a network has other numbers."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Name what is written in an `OSError` of the disk that names no file.

    Opening a file names it; a write beyond the end of the disk does not, and NumPy tells no more
    than how much of an array it could not write. Errors of a network stay as they are.
    """
    try:
        yield
    except OSError as error:
        bare = error.errno is None and type(error) is OSError
        if error.filename is not None or not (bare or error.errno in DISK_ERRORS):
            raise
        number = errno.ENOSPC if error.errno is None else error.errno
        reason = error.strerror or f"{error}; is the disk full?"
        raise OSError(number, reason, str(place)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` when the block has ended and all is on the disk.

    Until then, and after an error, what was at `path` stays as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file of text that is there whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def append_whole(file: IO[bytes], line: bytes) -> None:
    """Add a line to an unbuffered file with one write.

    Raises `OSError` where only a part of it could be written, on a full disk: that part does not
    stay.
    """
    with naming(Path(file.name)):
        written = file.write(line)
    if written != len(line):
        file.truncate(os.fstat(file.fileno()).st_size - written)
        reason = f"only {written} of {len(line)} bytes could be written; is the disk full?"
        raise OSError(errno.ENOSPC, reason, file.name)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which is at `path` when the block has ended and all is on the disk.

    Until then, and after an error, what was at `path` stays as it was. One process at a time: what
    a killed one left is removed by the next.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with naming(path):
            yield part
            sync_folder(part)
            replace_folder(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Force the files of a folder, those of its folders and their names to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _sync_names(path)
    _sync_names(folder)


def replace_folder(new: Path, place: Path) -> None:
    """Move a folder to its place, over an older one; only then is the older one removed."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.replace(old)
    new.replace(place)
    _sync_names(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(place: Path) -> None:
    """Bring the older folder back where a process was killed before the new one was in place."""
    old = place.with_name(f".{place.name}.old")
    if old.exists() and not place.exists():
        old.replace(place)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left of files and folders that they were writing into `folder`.

    For one who knows that nobody else is writing there.
    """
    for part in folder.glob(".*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, which is removed with all that is in it when the block ends.

    Those that killed processes left there are removed first; any number of processes may have one.
    """
    prefix = f".{place.name}.new-"
    with ExitStack() as stack:
        with _locked(place.parent):
            for left in place.parent.glob(f"{prefix}*"):
                with _locked(left, wait=False) as is_ours:
                    if is_ours:
                        shutil.rmtree(left, ignore_errors=True)
            made = tempfile.TemporaryDirectory(prefix=prefix, dir=place.parent)
            scratch = Path(stack.enter_context(made))
            stack.enter_context(_locked(scratch))  # as long as this process lives
        yield scratch


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Keep others who ask out of the folder; whether that is done. Without `wait` it is not where
    another one is in it.
    """
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    locked = False
    try:
        with suppress(OSError):  # another one has it, or the file system knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            locked = True
        yield locked
    finally:
        os.close(handle)


def _sync_names(folder: Path) -> None:
    if os.name == "nt":  # has no such thing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
