"""Interrupt whoever writes, at every change of a file, and look at what is there afterwards.

    OMP_NUM_THREADS=1 python -m tests.faults.interrupted_writing --folder /tmp/interrupted

For each kind of thing: killed before each change of a file or folder, killed and refused within a
write, killed at random moments, on a full disk, in a folder that is read-only; each with nothing
there before, and over an older version. What is there then must be whole (the new or the older
one), or a beginning that is known for one where a thing grows, or not there, or an error that is
ours and names the place. Afterwards the same command, not interrupted, must make it whole.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from tests.faults.interrupted_process import Ended, Stop, check_forkable, run
from tests.faults.interrupted_runs import RUNS, hub
from tests.faults.interrupted_things import DENSE, PLAIN, Thing

THINGS = (*PLAIN, *RUNS, *DENSE)
OUTCOMES = ("whole", "a beginning", "absent", "clear error", "wrong")
CLEAR = {
    "builtins.ValueError",
    "refine_env.datasets.download.DownloadError",
    "experiments.inputs.InputError",
}
"""Errors of ours. Subclasses of `ValueError`, as libraries raise them, are not among them."""
WRITE_ERRORS = CLEAR | {
    f"builtins.{name}" for name in ("OSError", "PermissionError", "FileExistsError")
}
"""What a writer may raise when it cannot write: the system's own errors are clear, too."""


@dataclass(slots=True)
class Tally:
    """What became of one thing."""

    name: str
    stops: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    left: int = 0
    """Attempts after which something lay beside the thing, when it was whole again."""
    wrong: list[str] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return sum(self.stops.values())


class Lab:
    """A folder to write into, a thing, and how it is when nobody interrupts."""

    def __init__(self, thing: Thing, base: Path) -> None:
        self.thing = thing
        self.root = base / "attempt"
        base.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)
        thing.prepare(self.root)
        if thing.forks_warm:
            self._warm(base / "warm")
        self.pieces: dict[int, list[str]] = {}
        self.straight: dict[bool, Ended] = {}
        versions = (0, 1) if thing.replaces else (1,)
        for version in versions:
            self.clean()
            ended = self.write(version)
            assert ended.code == 0, ended.error
            self.pieces[version] = self.look(version).value
            assert self.pieces[version], "nothing was read"
            self.straight[False] = ended
        self.sizes = sorted({p.stat().st_size for p in self.root.rglob("*") if p.is_file()})
        if thing.replaces:
            self.older()
            self.straight[True] = self.write(1)
            assert self.look(1).value == self.pieces[1]
        self.names = self._names()

    def _warm(self, root: Path) -> None:
        """Load once what every process would load for itself."""
        root.mkdir()
        self.thing.write(root, 1, lambda pieces: None)
        self.thing.read(root, 1)

    def clean(self) -> None:
        """Remove what is in the folder; the folder may be a mounted one."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def older(self) -> None:
        self.clean()
        assert self.write(0).code == 0

    def write(self, version: int, stop: Stop = Stop()) -> Ended:  # noqa: B008 (frozen)
        return run(lambda done: self.thing.write(self.root, version, done), self.root, stop)

    def look(self, version: int) -> Ended:
        """What a process of its own reads: a crash is then one that is seen."""
        return run(lambda _: list(self.thing.read(self.root, version)), self.root)

    def left(self) -> bool:
        """Whether anything is there that an uninterrupted writer does not leave."""
        return bool(self._names() - self.names)

    def _names(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}


def judge(lab: Lab, ended: Ended, looked: Ended, older: bool) -> tuple[str, str]:
    """(outcome, why it is wrong) of what was read after a writer was stopped."""
    name, message, trace = looked.error
    if looked.code < 0:
        return "wrong", f"the reader died of signal {-looked.code}"
    if looked.code:
        if name == "builtins.FileNotFoundError":
            return "absent", ""
        named = str(lab.root) in message
        return ("clear error", "") if name in CLEAR and named else ("wrong", trace)
    found = looked.value
    known = [lab.pieces[1], lab.pieces[0]] if older else [lab.pieces[1]]
    if found in known:
        return "whole", ""
    if lab.thing.grows and len(set(found)) == len(found):
        for pieces in known:
            if set(found) <= set(pieces) and set(pieces[: ended.done]) <= set(found):
                return ("a beginning" if found else "absent"), ""
    return "wrong", f"read {found}, known are {known}, said to be there: {ended.done}"


def attempt(lab: Lab, stop: Stop, older: bool, tally: Tally) -> None:
    """Interrupt a writer, look, and let it go on."""
    lab.older() if older else lab.clean()
    if stop.read_only:
        _set_rights(lab.root, 0o555, 0o444)
    ended = lab.write(1, stop)
    _set_rights(lab.root, 0o755, 0o644)
    tally.stops[stop.kind] += 1
    outcome, why = judge(lab, ended, lab.look(1), older)
    if ended.code > 0 and ended.error[0] not in WRITE_ERRORS:
        outcome, why = "wrong", f"the writer raised {ended.error[2]}"
    tally.outcomes[outcome] += 1
    again = lab.write(1)
    looked = lab.look(1)
    if again.code or looked.value != lab.pieces[1]:
        why = why or f"not whole again: {again.error[2] or looked.error[2] or looked.value}"
        if outcome != "wrong":
            tally.outcomes[outcome] -= 1
            tally.outcomes["wrong"] += 1
    if why:
        last = ended.changes[-1] if ended.changes else "nothing"
        tally.wrong.append(f"{tally.name}, {stop}, older={older}, at {last}: {why}")
    tally.left += lab.left()


def _set_rights(root: Path, folder: int, file: int) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod(folder if path.is_dir() else file)


def stops(lab: Lab, older: bool, dice: random.Random, count: int | None) -> Iterator[Stop]:
    """All changes and `count` of the rest each; with None a few of all."""
    straight = lab.straight[older]
    changes: Sequence[int] = range(1, len(straight.changes) + 1)
    if count is None:
        changes = sorted(dice.sample(changes, min(4, len(changes))))
    for number in changes:
        yield Stop(change=number)
    for _ in range(1 if count is None else count):
        size = dice.choice(lab.sizes)
        yield Stop(file_bytes=dice.randrange(size + 1))
        yield Stop(file_bytes=dice.randrange(size + 1), survives=True)
        yield Stop(seconds=dice.uniform(0, straight.seconds))
    yield Stop(read_only=True)


def examine(thing: Thing, base: Path, seed: int, count: int | None) -> Tally:
    """Interrupt the writers of one thing in many ways."""
    lab, tally, dice = Lab(thing, base), Tally(thing.name), random.Random(seed)
    for older in sorted(lab.straight):
        for stop in stops(lab, older, dice, count):
            attempt(lab, stop, older, tally)
    return tally


def table(tallies: Sequence[Tally]) -> str:
    """The counts as a Markdown table."""
    rows = [["thing", "interruptions", *OUTCOMES, "left beside it"]]
    for tally in tallies:
        counts = [tally.outcomes[name] for name in OUTCOMES]
        rows.append([tally.name, *map(str, [tally.attempts, *counts, tally.left])])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def harness_parser(description: str) -> argparse.ArgumentParser:
    """The options of every harness that goes through things."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="a new one")
    parser.add_argument("--things", nargs="*", help="parts of names; all without")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def chosen(things: Sequence[Thing], arguments: argparse.Namespace) -> Iterator[tuple[Thing, Path]]:
    """The things that were asked for, each with a place in the folder, while a hub is there."""
    tqdm.monitor_interval = 0  # no thread of it: this process is forked
    arguments.folder.mkdir(parents=True)
    with hub():
        for number, thing in enumerate(things):
            if arguments.things and not any(part in thing.name for part in arguments.things):
                continue
            yield thing, arguments.folder.resolve() / str(number)
            check_forkable()


def main() -> None:
    parser = harness_parser(__doc__)
    parser.add_argument("--count", type=int, default=20, help="of each kind at random")
    parser.add_argument("--quick", action="store_true", help="a few of each kind")
    arguments = parser.parse_args()
    count = None if arguments.quick else arguments.count
    tallies = []
    for thing, base in chosen(THINGS, arguments):
        tallies.append(examine(thing, base, arguments.seed, count))
        print(table(tallies[-1:]).splitlines()[-1], dict(tallies[-1].stops), flush=True)
        for line in tallies[-1].wrong:
            print(line, flush=True)
    print(table(tallies))
    report = {t.name: {"stops": t.stops, "outcomes": t.outcomes, "wrong": t.wrong} for t in tallies}
    (arguments.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(any(tally.wrong for tally in tallies))


if __name__ == "__main__":
    main()
