"""Run a task in a forked process that is interrupted while it writes files.

An attempt is stopped by SIGKILL right before its n-th change of a file or folder, which an audit
hook sees coming; by SIGKILL after some time; within a write that makes a file too large; or it goes
on and gets errors: from a disk that is full, in a folder that is not writable. It says what it did
through a pipe, which none of this touches.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGES = frozenset(
    "os.rename os.remove os.rmdir os.mkdir os.truncate os.link shutil.rmtree "
    "sqlite3.connect".split()
)
_WRITES = os.O_WRONLY | os.O_RDWR
_PIPE_BYTES = 1 << 20
_CAPABILITIES = 0x20080522  # the version of the structure that capset takes
DEADLINE = 120.0
"""Seconds after which a process counts as one that hangs."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How an attempt is interrupted; as it stands, not at all."""

    change: int | None = None
    """Killed right before this change, from 1."""
    seconds: float | None = None
    """Killed so long after its start."""
    file_bytes: int | None = None
    """Killed by the write that makes a file larger than this; see `survives`."""
    survives: bool = False
    """The write that would make a file too large fails, and the process goes on."""
    read_only: bool = False
    """The folder cannot be written to."""

    @property
    def kind(self) -> str:
        if self.change is not None:
            return "kill before a change"
        if self.seconds is not None:
            return "kill at a time"
        if self.file_bytes is not None:
            return "no room" if self.survives else "kill within a write"
        return "read-only" if self.read_only else "none"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; below 0 the number of the signal that it died of."""
    seconds: float
    changes: tuple[str, ...]
    """The changes of files and folders that it made or was about to make."""
    done: int
    """How many pieces it had said to be on the disk."""
    value: Any
    """What the task returned, as JSON has it."""
    error: tuple[str, str, str]
    """Class, message and traceback of what it raised; blank without."""


Done = Callable[[int], None]
Task = Callable[[Done], Any]
"""Does the work; is given a function to say how many pieces are on the disk."""


def run(task: Task, root: Path, stop: Stop = Stop()) -> Ended:
    """Run the task in a fork of this process, whose changes below `root` are counted.

    Raises `RuntimeError` where it hangs.
    """
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        _work(task, root, stop, write)
    os.close(write)
    ended = _wait(child, stop.seconds)
    seconds = time.monotonic() - started
    with os.fdopen(read, "rb") as pipe:
        notes = [json.loads(line) for line in pipe.read().splitlines()]
    kinds: dict[str, list[Any]] = {"change": [], "done": [0], "value": [None], "error": [""] * 3}
    for kind, value in notes:
        kinds[kind].append(value)
    error = kinds["error"][-1] or ("", "", "")
    changes = tuple(kinds["change"])
    return Ended(ended, seconds, changes, kinds["done"][-1], kinds["value"][-1], tuple(error))


def _wait(child: int, seconds: float | None) -> int:
    """The exit code, of a process that is killed after some time where that is wanted."""
    handle = os.pidfd_open(child)  # readable when the process has ended
    ready, _, _ = select.select([handle], [], [], DEADLINE if seconds is None else seconds)
    os.close(handle)
    if not ready:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if seconds is None and not ready:
        raise RuntimeError(f"a process did not end within {DEADLINE:g} s")
    return code


def _work(task: Task, root: Path, stop: Stop, pipe: int) -> None:
    """The forked process; leaves without what the parent would do at its end."""

    def note(kind: str, value: Any) -> None:
        os.write(pipe, json.dumps([kind, value]).encode() + b"\n")

    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        _watch(root, stop.change, lambda change: note("change", change))
        _limit(stop)
        note("value", task(lambda pieces: note("done", pieces)))
        code = 0
    except BaseException as error:
        _limit_no_more()
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        note("error", [name, str(error)[:2000], traceback.format_exc()[-4000:]])
    finally:
        os._exit(code)


def _limit(stop: Stop) -> None:
    if stop.read_only:
        _drop_rights()
    if stop.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (stop.file_bytes, resource.RLIM_INFINITY))
        # Python ignores the signal, and so a write fails; by default it is deadly.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if stop.survives else signal.SIG_DFL)


def _limit_no_more() -> None:
    limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _drop_rights() -> None:
    """A superuser writes wherever it wants until it lays that right down."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _watch(root: Path, last: int | None, note: Callable[[str], None]) -> None:
    """Note every change that is about to be made below `root`; die before the one."""
    count = 0

    def about_to(change: str) -> None:
        nonlocal count
        count += 1
        note(change)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_changes(root, about_to)


def watch_changes(root: Path, about_to: Callable[[str], None]) -> None:
    """Be told of every change of a file or folder below `root` right before this process makes it,
    from now on: `os.rename policy`, the path as seen from `root`.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if not opened and event not in CHANGES:
            return
        path = _path(arguments[0], arguments[-1])
        if path is not None and path.is_relative_to(root):
            about_to(f"{event} {path.relative_to(root)}")

    sys.addaudithook(hook)


def _path(name: Any, folder: Any) -> Path | None:
    """The path of a file that is named alone, or beside the number of its open folder."""
    if isinstance(name, int):
        return None
    path = Path(os.fsdecode(name))
    if path.is_absolute() or not isinstance(folder, int) or folder < 0:
        return path
    return Path(f"/proc/self/fd/{folder}").readlink() / path


def check_forkable() -> None:
    """Raise `SystemExit` when this process has threads, whose locks a fork might inherit."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    threads = [name for name in names if not name.startswith("jemalloc")]  # that one can be forked
    if len(threads) > 1:
        sys.exit(f"this process has threads and cannot be forked: {names}; set OMP_NUM_THREADS=1")
