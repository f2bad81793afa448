"""Damage whole things and see who notices: `python -m tests.faults.interrupted_damage`.

Of each kind of thing every file is changed in turn: one bit flipped at seeded places, cut short,
emptied, and replaced by files of other kinds, a pickle that leaves a trace when it is loaded among
them. What is read then is either as before (harmless), refused with an error of ours that names the
place (noticed), less than before and without anything false in it (left out), or something else
that nothing can tell from what was written (not noticed: the file has no checksum). An error of
a library, a crash or a loaded pickle is wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from tests.faults.interrupted_process import Ended
from tests.faults.interrupted_runs import hub
from tests.faults.interrupted_things import Thing
from tests.faults.interrupted_writing import CLEAR, THINGS, Lab

OUTCOMES = ("noticed", "harmless", "left out", "not noticed", "wrong")
_SIGNS = CLEAR | {"builtins.FileNotFoundError", "builtins.ImportError"}
"""Errors that say what to do. `ImportError`: a manifest may name a library that is not there."""


_SKIPPED = ("-shm", ".lock", "results.json", "results.md")
"""Of no content of their own, or made of the rest for people: nothing reads them."""


class _Trace:
    """Leaves a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


@dataclass(slots=True)
class Noticed:
    """What became of the damage to one file, or to all files of a thing."""

    name: str
    flips: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    """Cut, emptied and foreign files."""
    wrong: list[str] = field(default_factory=list)


def foreign(trace: Path) -> dict[str, bytes]:
    """Contents that belong to nothing here."""
    import numpy as np

    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.array([_Trace(trace)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a", "b")
    return {
        "empty": b"",
        "text": b"some notes\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "archive": archive.getvalue(),
        "other JSON": b'{"name": "an extension"}\n',
        "pickle": pickle.dumps(_Trace(trace)),
        "pickled array": array.getvalue(),
    }


def judge(lab: Lab, looked: Ended, trace: Path) -> tuple[str, str]:
    """(outcome, why it is wrong) of what was read of a damaged thing."""
    name, message, told = looked.error
    if trace.exists():
        trace.rmdir()
        return "wrong", "a pickle was loaded"
    if looked.code < 0:
        return "wrong", f"the reader died of signal {-looked.code}"
    if looked.code:
        named = str(lab.root) in message or name == "builtins.FileNotFoundError"
        return ("noticed", "") if name in _SIGNS and named else ("wrong", told)
    if looked.value == lab.pieces[1]:
        return "harmless", ""
    if len(lab.pieces[1]) > 1 and set(looked.value) <= set(lab.pieces[1]):
        return "left out", ""
    return "not noticed", ""


def changes(data: bytes, dice: random.Random, flips: int) -> Iterator[tuple[str, bytes]]:
    """(what was done, the content) for each flip, and the content cut short."""
    for _ in range(flips if data else 0):
        place, bit = dice.randrange(len(data)), dice.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(changed)
    if len(data) > 1:
        yield "cut", data[: dice.randrange(1, len(data))]


def examine(thing: Thing, base: Path, seed: int, flips: int) -> list[Noticed]:
    """Damage every file of a thing in turn; what came of it, file by file."""
    lab, dice = Lab(thing, base), random.Random(seed)
    lab.clean()
    assert lab.write(1).code == 0
    trace = lab.root.parent / "a-pickle-was-loaded"
    found = []
    for path in sorted(path for path in lab.root.rglob("*") if path.is_file()):
        if path.name.endswith(_SKIPPED):
            continue
        noticed = Noticed(f"{thing.name}: {path.relative_to(lab.root)}")
        data = path.read_bytes()
        others = (item for item in foreign(trace).items())
        for what, content in [*changes(data, dice, flips), *others]:
            kept = {p: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
            path.unlink()  # it may be linked to from elsewhere
            path.write_bytes(content)
            outcome, why = judge(lab, lab.look(1), trace)
            (noticed.flips if what.startswith("bit") else noticed.foreign)[outcome] += 1
            if why:
                noticed.wrong.append(f"{noticed.name}, {what}: {why}")
            _restore(path.parent, kept)
        found.append(noticed)
    return found


def _restore(folder: Path, kept: dict[Path, bytes]) -> None:
    """Readers of a database change what is beside it, too."""
    for path in folder.iterdir():
        if path.is_file() and path not in kept:
            path.unlink()
    for path, data in kept.items():
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)


def summed(name: str, found: list[Noticed]) -> Noticed:
    """All files of a thing together."""
    total = Noticed(name)
    for one in found:
        total.flips += one.flips
        total.foreign += one.foreign
        total.wrong += one.wrong
    return total


def row(noticed: Noticed) -> str:
    """A line of a Markdown table: flips / other damage."""
    counts = [f"{noticed.flips[name]} / {noticed.foreign[name]}" for name in OUTCOMES]
    every = f"{sum(noticed.flips.values())} / {sum(noticed.foreign.values())}"
    return f"| {noticed.name} | {' | '.join([every, *counts])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="a new one")
    parser.add_argument("--things", nargs="*", help="parts of names; all without")
    parser.add_argument("--flips", type=int, default=20, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tqdm.monitor_interval = 0  # no thread of it: this process is forked
    arguments.folder.mkdir(parents=True)
    rows, wrong = [], 0
    with hub():
        for number, thing in enumerate(THINGS):
            if arguments.things and not any(part in thing.name for part in arguments.things):
                continue
            base = arguments.folder.resolve() / str(number)
            found = examine(thing, base, arguments.seed, arguments.flips)
            total = summed(thing.name, found)
            rows.append(row(total))
            wrong += len(total.wrong)
            print("\n".join([*map(row, found), rows[-1], *total.wrong]), flush=True)
    print(f"| thing | flips / other damage | {' | '.join(OUTCOMES)} |")
    print("\n".join(["| --- " * (len(OUTCOMES) + 2) + "|", *rows]))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
