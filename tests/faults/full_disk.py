"""Write everything to a disk that runs full: `python -m tests.faults.full_disk --folder NEW`.

For each kind of thing, and for commands that write it: a disk of its own has room for so many pages
or files when the writer starts, from none to nearly enough, or is read-only; with nothing there and
over an older version. The writer must end well with all of it there, or with an error that names
the file and the cause, a command without a traceback. What is there then must be whole, or a known
beginning where a thing grows, or nothing; what was there before must still be there. After room is
made the same command must make it whole.

The disk is a small tmpfs, mounted for this process alone. Where the machine grants no mounts
(`--limit` does without, too), a limit on the size of files stands for it: a write beyond it fails
with "File too large".
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.interrupted_commands import COMMANDS
from tests.faults.interrupted_disk import PAGE, Disk, Room, own_mounts
from tests.faults.interrupted_process import Ended, Stop
from tests.faults.interrupted_things import Thing
from tests.faults.interrupted_writing import (
    THINGS,
    WRITE_ERRORS,
    Lab,
    chosen,
    harness_parser,
    judge,
)

EVERYTHING = (*THINGS, *COMMANDS)
ENDS = ("finished", "clear error", "unclear")
THERE = ("whole", "older whole", "a beginning", "absent", "wrong")
REFUSED = frozenset({"tests.faults.interrupted_commands.Refused"})
CAUSES = (
    *("No space left", "disk is full", "disk full", "Read-only", "File too large"),
    *("bytes could be written", "are free on"),
    *("unable to open database file", "disk I/O error", "readonly"),  # SQLite says no more
)


@dataclass(slots=True)
class Tally:
    """What became of one thing."""

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    needed: list[int] = field(default_factory=list)
    """Pages with which a writer comes to its end."""
    wrong: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Cells of the table."""
        counts = [self.ends[name] for name in ENDS] + [self.there[name] for name in THERE]
        most = f"{max(self.needed, default=0) * PAGE // 1024:,}"
        return [self.name, most, *map(str, [self.ends.total(), *counts, len(self.wrong)])]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class FileLimit:
    """Stands for a disk where none can be mounted: files cannot become larger than the room."""

    def leave(self, room: Room) -> Stop:
        """How a writer is then run."""
        return Stop() if room.pages is None else Stop(file_bytes=room.pages * PAGE, survives=True)


class SmallDisk:
    """The disk that the writers write to."""

    def __init__(self, folder: Path) -> None:
        self._disk = Disk(folder)

    def leave(self, room: Room) -> Stop:
        """Leave so much room; how a writer is then run: as ever."""
        self._disk.leave(room)
        return Stop()


class Shortage:
    """Attempts to write a thing with too little room."""

    def __init__(self, lab: Lab, disk: SmallDisk | FileLimit, tally: Tally) -> None:
        self.lab, self.disk, self.tally = lab, disk, tally

    def attempt(self, room: Room, older: bool) -> bool:
        """Write with so much room, look, make room, look and write again. Whether it was all there
        before that.
        """
        lab = self.lab
        self.disk.leave(Room())
        before = self._begin(older)
        ended = lab.write(1, self.disk.leave(room))
        while_full = lab.look(1)
        self.disk.leave(Room())
        looked = lab.look(1)
        reasons = [self._unclear(ended), self._misread(ended, while_full, before)]
        there, why = self._there(ended, looked, before)
        again, after = lab.write(1), lab.look(1)
        if again.code or after.value != lab.pieces[1]:
            why = why or f"not whole again: {again.error[2] or after.error[2] or after.value}"
        reasons.append(why)
        whole = not ended.code and there == "whole"
        self.tally.kinds[room.kind] += 1
        self.tally.ends["unclear" if reasons[0] else "clear error" if ended.code else ENDS[0]] += 1
        self.tally.there[there] += 1
        self.tally.wrong += [f"{lab.thing.name}, {room}, {older=}: {r}" for r in reasons if r]
        return whole

    def _begin(self, older: bool) -> list[str]:
        """What is there when the writer starts: nothing, an older one, or a first part."""
        lab = self.lab
        lab.clean()
        if not older:
            return []
        if lab.thing.replaces:
            assert lab.write(0).code == 0
            return lab.pieces[0]
        lab.write(1, self.disk.leave(Room(pages=max(self.tally.needed) // 2)))
        self.disk.leave(Room())
        return lab.look(1).value or []

    def _unclear(self, ended: Ended) -> str:
        """What is wrong with the end of a writer."""
        name, message, trace = ended.error
        if ended.code < 0:
            return f"the writer died of signal {-ended.code}"
        if not ended.code:
            return ""
        if name not in (REFUSED if self.lab.thing in COMMANDS else WRITE_ERRORS):
            return f"the writer raised {trace}"
        if str(self.lab.root) not in message and "are free on" not in message:  # asked in time
            return f"no file is named: {trace}"
        return "" if any(cause in message for cause in CAUSES) else f"no cause is named: {message}"

    def _misread(self, ended: Ended, looked: Ended, before: list[str]) -> str:
        """What is wrong with what is read while there is no room."""
        lab = self.lab
        outcome, why = judge(lab, ended, looked, bool(before) and lab.thing.replaces)
        return f"read while there was no room: {why}" if outcome == "wrong" else ""

    def _there(self, ended: Ended, looked: Ended, before: list[str]) -> tuple[str, str]:
        """What is there in the end, and why that is wrong."""
        lab = self.lab
        outcome, why = judge(lab, ended, looked, bool(before) and lab.thing.replaces)
        if outcome == "clear error":
            return "wrong", f"it cannot be read any more: {looked.error[1]}"
        found = looked.value or []
        if outcome == "whole" and found != lab.pieces[1]:
            return "older whole", ""
        lost = set(before) - set(found) and found != lab.pieces[1] and not lab.thing.made_void
        return outcome, why or ("what was there before is not whole any more" if lost else "")


def examine(thing: Thing, base: Path, seed: int, count: int, limit: bool) -> Tally:
    """Write one thing with too little room in many ways."""
    disk = FileLimit() if limit else SmallDisk(base / "attempt")
    lab, tally, dice = Lab(thing, base), Tally(thing.name), random.Random(seed)
    shortage = Shortage(lab, disk, tally)
    largest = sum(path.stat().st_size // PAGE + 2 for path in lab.root.rglob("*"))
    for older in (False, True) if thing.replaces or thing.grows else (False,):
        low, high = 0, 8 * largest + 8
        while low < high:  # the least room with which all of it is there
            pages = (low + high) // 2
            low, high = (low, pages) if shortage.attempt(Room(pages), older) else (pages + 1, high)
        tally.needed.append(high)
        for pages in sorted(dice.sample(range(high), min(count, high))):
            shortage.attempt(Room(pages), older)
        if limit:
            continue
        files = sum(1 for _ in lab.root.rglob("*")) + 3
        for number in sorted(dice.sample(range(files), min(1 + count // 3, files))):
            shortage.attempt(Room(files=number), older)
        shortage.attempt(Room(read_only=True), older)
    return tally


def table(tallies: Sequence[Tally]) -> str:
    """The counts as a Markdown table."""
    head = ["thing", "needs, kB", "attempts", *ENDS, *THERE, "faults"]
    rows = [head, ["---"] * len(head), *(tally.row() for tally in tallies)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def mountable() -> str:
    """Why no disk can be mounted here; blank where one can."""
    try:
        own_mounts()
    except OSError as error:
        return f"no disk can be mounted here ({error})"
    return ""


def main() -> None:
    parser = harness_parser(__doc__)
    parser.add_argument("--count", type=int, default=12, help="sizes at random, besides a search")
    parser.add_argument("--limit", action="store_true", help="a limit on the size of files instead")
    arguments = parser.parse_args()
    why_not = "asked for" if arguments.limit else mountable()
    print(f"limit on the size of files: {why_not}" if why_not else "tmpfs in its own name space")
    tallies = []
    for thing, base in chosen(EVERYTHING, arguments):
        tallies.append(examine(thing, base, arguments.seed, arguments.count, bool(why_not)))
        print(table(tallies[-1:]).splitlines()[-1], dict(tallies[-1].kinds), flush=True)
        for line in tallies[-1].wrong:
            print(line, flush=True)
    print(table(tallies))
    report = json.dumps({tally.name: tally.plain() for tally in tallies}, indent=1)
    (arguments.folder / "report.json").write_text(report + "\n")
    sys.exit(any(tally.wrong for tally in tallies))


if __name__ == "__main__":
    main()
