"""Whether what the project depends on, and what it is delivered as, holds.

    python -m tests.supply all --folder /tmp/supply
    python -m tests.supply versions --folder /tmp/versions --parts core --kinds lowest

Each command writes a JSON file into its folder, says what is wrong, and ends with code 1 if
anything is. `versions`, `built` and `audit` install from the package index into environments of
their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.inputs import InputError
from tests.supply import audit, built, licences, versions

COMMANDS = {
    "versions": "run the tests with the lowest and the newest versions of the dependencies",
    "built": "build wheel and source distribution, install them, run them elsewhere",
    "audit": "ask pip-audit about the pinned versions",
    "licences": "read the licences of what is installed here",
    "all": "all of these, one after the other",
}


def _versions(arguments: argparse.Namespace) -> list[str]:
    results, wrong = [], []
    for name in arguments.parts:
        for kind in arguments.kinds:
            place = arguments.folder / "versions" / f"{name}-{kind}"
            result = versions.examine(name, kind, place, arguments.keep)
            results.append(result)
            _write(arguments.folder / "versions.json", results)
            wrong += [f"{name}, {kind}: {test} failed" for test in result["failed"]]
    print(versions.table(results))
    return wrong


def _built(arguments: argparse.Namespace) -> list[str]:
    result = built.examine(arguments.folder / "built", arguments.keep)
    _write(arguments.folder / "built.json", result)
    return built.failed(result)


def _audit(arguments: argparse.Namespace) -> list[str]:
    result = audit.examine(arguments.folder / "audit", arguments.keep)
    _write(arguments.folder / "audit.json", result)
    return audit.failed(result)


def _licences(arguments: argparse.Namespace) -> list[str]:
    result = licences.examine()
    _write(arguments.folder / "licences.json", result)
    print("| licence | distributions | direct dependencies |\n| --- | --- | --- |")
    for family, (count, direct) in result["families"].items():
        print(f"| {family} | {count} | {direct} |")
    return licences.failed(result)


RUN: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "licences": _licences,
    "audit": _audit,
    "built": _built,
    "versions": _versions,
}


def _write(path: Path, result: Any) -> None:
    text = json.dumps(result, indent=1, default=_plain)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tests.supply", description=__doc__, formatter_class=shape)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--folder", type=Path, required=True, help="for results and logs")
        command.add_argument("--keep", action="store_true", help="keep the environments")
        if name in ("versions", "all"):
            command.add_argument(
                "--parts", nargs="+", choices=versions.PARTS, default=list(versions.PARTS)
            )
            command.add_argument(
                "--kinds", nargs="+", choices=versions.KINDS, default=list(versions.KINDS)
            )
    arguments = parser.parse_args(words)
    arguments.folder = arguments.folder.resolve()
    return arguments


def _examine(arguments: argparse.Namespace) -> list[str]:
    chosen = RUN if arguments.command == "all" else {arguments.command: RUN[arguments.command]}
    for name in chosen:
        if (arguments.folder / name).exists():
            raise InputError(f"{arguments.folder / name} is there already: name another --folder")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return [line for examine in chosen.values() for line in examine(arguments)]


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    try:
        wrong = _examine(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
