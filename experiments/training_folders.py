"""From what a user names (runs, folders that hold runs, patterns) to folders of runs."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.tracking import METRICS
from experiments.inputs import InputError

SIGNS = (METRICS, "run.json")
"""A folder with any of these is a training run."""
DEPTH = 3
"""How far below a folder its runs are looked for."""
_LISTED = 8
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)")


@dataclass(frozen=True, slots=True)
class Found:
    """The runs that were named, each once, and what was named with them and is none."""

    runs: tuple[Path, ...]
    left_out: tuple[str, ...]


def find_runs(
    named: Sequence[str | Path], *, signs: Sequence[str] = SIGNS, depth: int = DEPTH
) -> Found:
    """The folders of runs; a folder that holds runs, up to `depth` below it, stands for all of
    them, a pattern for what fits it. Raises `InputError` where a name is neither.
    """
    runs: dict[Path, Path] = {}
    left_out: dict[str, None] = {}
    for name in named:
        found = _named(str(name), signs, depth)
        for run in found.runs:
            runs.setdefault(run.resolve(), run)
        left_out |= dict.fromkeys(found.left_out)
    return Found(tuple(runs.values()), tuple(left_out))


def _named(name: str, signs: Sequence[str], depth: int) -> Found:
    if Path(name).exists() or not glob.has_magic(name):
        return _runs_at(Path(name), signs, depth)
    fitting = [Path(found) for found in sorted(glob.glob(name), key=_in_order)]  # noqa: PTH207
    runs, left_out = [], []
    for path in fitting:
        below = _runs_below(path, signs, depth) if path.is_dir() else []
        runs += below
        left_out += [] if below else [str(path)]
    if not runs:
        what = f"{len(fitting)} names, none of them a training run" if fitting else "nothing"
        raise InputError(f"{name} fits {what}; name folders that `refine-env train` has made")
    return Found(tuple(runs), tuple(left_out))


def _runs_at(path: Path, signs: Sequence[str], depth: int) -> Found:
    if not path.exists():
        raise InputError(f"{path} is not there; name folders that `refine-env train` has made")
    if not path.is_dir():
        raise InputError(f"{path} is a file; name the folder of a training run")
    runs = _runs_below(path, signs, depth)
    if not runs:
        raise InputError(
            f"{path} is no training run and holds none: there is no {' and no '.join(signs)}, "
            f"but {_content(path)}{_advice(path)}"
        )
    if runs == [path]:
        return Found((path,), ())
    empty = [child for child in _folders(path) if not _runs_below(child, signs, depth - 1)]
    return Found(tuple(runs), tuple(map(str, empty)))


def _runs_below(path: Path, signs: Sequence[str], depth: int) -> list[Path]:
    if any((path / sign).is_file() for sign in signs):
        return [path]
    if not depth:
        return []
    return [run for child in _folders(path) for run in _runs_below(child, signs, depth - 1)]


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, `run-2` before `run-10`; hidden ones are nobody's runs."""
    children = [child for child in path.iterdir() if child.is_dir()]
    return sorted((c for c in children if not c.name.startswith(".")), key=_in_order)


def _in_order(path: str | Path) -> list[tuple[int, float, str]]:
    """Sorts numbers within names by their value: `run-2`, `run-10`; `lr-0.001`, `lr-0.01`."""
    parts = _NUMBER.split(str(path))  # every second one is a number
    return [(0, float(p), "") if i % 2 else (1, 0.0, p) for i, p in enumerate(parts)]


def _content(path: Path) -> str:
    names = sorted(f"{child.name}/" if child.is_dir() else child.name for child in path.iterdir())
    if not names:
        return "nothing at all"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _advice(path: Path) -> str:
    evaluated = (path / "results.json").is_file()
    return "; evaluations are compared by `refine-env compare`" if evaluated else ""
