"""Errors of writing that say which file: on a full disk those of Python and NumPy do not."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO".split()
    if hasattr(errno, name)
)
"""What a disk says that takes no more; a network has other numbers."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Name what is written in an `OSError` that names no file.

    Put it around writing only. Opening a file names it; a write beyond the end of the disk does
    not, and NumPy tells no more than how much of an array it could not write.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        number = errno.ENOSPC if error.errno is None else error.errno
        reason = error.strerror or f"{error}; is the disk full?"
        raise OSError(number, reason, str(place)) from error
