"""A small disk of our own: a file system in memory that has as much room as it is told.

It is mounted in a name space of this process and its children, so that nobody else sees it and
nothing of it is left. That takes no rights but those of a user name space, which some machines do
not grant.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")
"""Bytes that a file takes at a time, and the smallest step of the disk's size."""
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 1 << 12, 1 << 14, 1 << 18
_ENOUGH = 1 << 30, 1 << 20
"""Bytes and files of a disk that does not run full."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a disk, from the moment that a writer starts."""

    pages: int | None = None
    """None: more than enough; so for `files`."""
    files: int | None = None
    """Files and folders that can be made."""
    read_only: bool = False

    @property
    def kind(self) -> str:
        if self.read_only:
            return "read-only"
        return "no room" if self.files is None else "no more files"


class Disk:
    """A mounted disk. Raises `OSError` where the machine lets nobody mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hidden = folder.with_name(".disk")
        for place in (folder, hidden):
            place.mkdir(parents=True, exist_ok=True)
        _mount(b"tmpfs", hidden, b"tmpfs", 0, "")
        (hidden / "ballast").write_bytes(bytes(PAGE))  # a disk without a page has no end
        (hidden / "room").mkdir()
        _mount(os.fsencode(hidden / "room"), folder, None, _BIND, "")
        self.enlarge()

    def leave(self, room: Room) -> None:
        """Leave so much room, beside what is there now."""
        there = os.statvfs(self.folder)
        pages = room.pages
        used = (there.f_blocks - there.f_bfree) * there.f_frsize
        size = _ENOUGH[0] if pages is None else used + pages * PAGE
        files = room.files
        count = _ENOUGH[1] if files is None else there.f_files - there.f_ffree + files
        flags = _REMOUNT | (_READ_ONLY if room.read_only else 0)
        _mount(b"tmpfs", self.folder, b"tmpfs", flags, f"size={size},nr_inodes={count}")

    def enlarge(self) -> None:
        """Make more room than is needed."""
        self.leave(Room())


def own_mounts() -> None:
    """Put this process into a name space of its own. Raises `OSError` where that is not granted;
    a process with threads gets none unless it is the superuser's.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except PermissionError:
        _call("unshare", _NEW_MOUNTS | _NEW_USERS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount(b"none", Path("/"), None, _RECURSIVE | _PRIVATE, "")


def _mount(source: bytes, place: Path, kind: bytes | None, flags: int, options: str) -> None:
    _call("mount", source, os.fsencode(place), kind, ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: object) -> None:
    """A function of the C library. Raises `OSError`."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
