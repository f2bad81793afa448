"""What a process and all that it started take, read now and then while it works."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A process with its descendants at one moment."""

    seconds: float
    """Wall time since the start."""
    work: int
    """Steps done so far, of whatever the run is made of."""
    processor: float
    """Processor seconds that the work has taken so far."""
    resident: int
    """Bytes in memory, summed; pages that processes share count in each."""
    private: int
    """Bytes that belong to one of the processes alone."""
    handles: int
    """Open files, sockets and pipes."""
    threads: int
    processes: int
    """The one that is watched and its descendants."""


def read_tree(
    pid: int, *, seconds: float, work: int, processor: float | None = None
) -> Reading | None:
    """The process `pid` with its descendants; None when it has ended.

    `processor` defaults to all that they have used, descendants that have ended included.
    """
    try:
        root = psutil.Process(pid)
        if root.status() == psutil.STATUS_ZOMBIE:
            return None
        found = [_read(root), *(_read(child) for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return None
    alive = [one for one in found if one is not None]
    return Reading(
        seconds=seconds,
        work=work,
        processor=sum(one["processor"] for one in alive) if processor is None else processor,
        resident=sum(one["resident"] for one in alive),
        private=sum(one["private"] for one in alive),
        handles=sum(one["handles"] for one in alive),
        threads=sum(one["threads"] for one in alive),
        processes=len(alive),
    )


def _read(process: psutil.Process) -> dict[str, Any] | None:
    """One process; None when it ended meanwhile."""
    try:
        with process.oneshot():
            memory, times = process.memory_full_info(), process.cpu_times()
            return {
                "processor": sum(times[:4]),  # user, system, and those of children that ended
                "resident": memory.rss,
                "private": memory.uss,
                "handles": process.num_fds(),
                "threads": process.num_threads(),
            }
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def columns(readings: Sequence[Reading]) -> dict[str, list[float]]:
    """Readings as a JSON file holds them: a list for each field."""
    rows = [asdict(reading) for reading in readings]
    return {item.name: [row[item.name] for row in rows] for item in fields(Reading)}


def save(path: Path, readings: Sequence[Reading], told: Mapping[str, Any]) -> None:
    """Write readings with what is to be known of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**told, "readings": columns(readings)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> list[Reading]:
    """The readings that `save` wrote."""
    listed = json.loads(path.read_text(encoding="utf-8"))["readings"]
    return [
        Reading(**dict(zip(listed, row, strict=True))) for row in zip(*listed.values(), strict=True)
    ]
