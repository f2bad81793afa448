"""Commands of `refine-env` as things that are written: what they say when they cannot write counts.

Each is called as a person calls it, but for the process: that one is forked, with all loaded.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import interrupted_runs as runs
from tests.faults.interrupted_process import Done
from tests.faults.interrupted_things import Thing, _read_bm25, digest, documents


class Refused(Exception):
    """A command that ended as one that was asked for something wrong: a message and status 2."""


def command(*arguments: str | Path) -> None:
    """Run a command, silently.

    Raises `Refused` where it ends with a message alone, `SystemExit` for any other end but a good
    one; what it raises instead of saying it is let through.
    """
    from experiments import cli

    said = io.StringIO()
    logging.disable()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        _, mark, message = said.getvalue().partition("refine-env: ")  # bars may stand before it
        if end.code == 2 and mark and "Traceback" not in said.getvalue():
            raise Refused(message.strip()) from None
        if end.code:
            raise SystemExit(f"status {end.code}: {said.getvalue()}") from None
    finally:
        logging.disable(logging.NOTSET)


def _rows(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _prepare_index(root: Path) -> None:
    for version in (0, 1):
        rows = [{"id": d.id, "title": d.title, "text": d.text} for d in documents(version)]
        (root.parent / f"passages-{version}.jsonl").write_bytes(_rows(rows))


def _write_index(root: Path, version: int, done: Done) -> None:
    corpus = root.parent / f"passages-{version}.jsonl"
    command("index", "--corpus", corpus, "--output", root / "index", "--overwrite")


def _write_evaluation(root: Path, version: int, done: Done) -> None:
    data = root.parent / "data" / "nq"
    options = ("--agent", "random", "--questions", str(8 + version), "--output", root / "run")
    command("evaluate", "--env", "nq", "--data-dir", data, *options)


def _write_collection(root: Path, version: int, done: Done) -> None:
    sizes = ("--questions", "6", "--rollouts", "2", "--turn-tokens", "8", "--shard-size", "4")
    more = ("--max-turns", "2", "--completion-tokens", "60", "--output", root / "run")
    command("collect", "--policy", root.parent / "policy", *sizes, *more)


def _prepare_download(root: Path) -> None:
    runs._prepare_download(root)
    os.environ["XDG_CACHE_HOME"] = str(root)
    from refine_env.datasets import sources

    sources.DATASET_SOURCES["nq"] = runs.SOURCE


def _write_download(root: Path, version: int, done: Done) -> None:
    command("prepare", "nq", "--yes")


def _read_download(root: Path, version: int) -> list[str]:
    return runs._read_download(root / "refine_env", version)


def _prepare_finished(root: Path) -> None:
    runs._prepare_evaluation(root)
    folder = root.parent / "finished"
    if not folder.is_dir():
        folder.mkdir()
        data = root.parent / "data" / "nq"
        for version in (0, 1):
            options = ("--questions", str(8 + version), "--output", folder / f"run-{version}")
            command("evaluate", "--env", "nq", "--data-dir", data, "--agent", "random", *options)


def _run_of(root: Path, version: int) -> Path:
    return root.parent / "finished" / f"run-{version}"


def _write_page(root: Path, version: int, done: Done) -> None:
    command("view", _run_of(root, version), "--output", root / "page.html")


def _write_audit(root: Path, version: int, done: Done) -> None:
    data = root.parent / "data" / "nq"
    retriever = ("bm25", "none")[version]
    command(
        "audit", "nq", "--data-dir", data, "--retriever", retriever, "--output", root / "a.json"
    )


def _write_recall(root: Path, version: int, done: Done) -> None:
    data = root.parent / "data"
    engines = ["--retriever", "bm25"] * (1 + version)
    command("recall", "nq", "--data-root", data, *engines, "--output", root / "recall.json")


def _write_questions(root: Path, version: int, done: Done) -> None:
    layout = ("verl", "trl")[version]
    where = ("--env", "miniwiki", "--split", "dev", "--output", root / "questions.parquet")
    with suppress(OSError):  # on a read-only disk, where none is there
        (root / "questions.parquet").unlink(missing_ok=True)
    command("export", "questions", *where, "--to", layout)


def _read_files(root: Path, version: int, names: Sequence[str]) -> list[str]:
    """A piece for each file, whatever is in it: half of one is then no piece of those known."""
    found = [root / name for name in names if (root / name).is_file()]
    if not found:
        raise FileNotFoundError(f"none of {', '.join(names)}")
    return [digest(path.name, path.read_bytes()) for path in found]


COMMANDS = (
    Thing("`refine-env index`", _write_index, _read_bm25, prepare=_prepare_index),
    Thing(
        "`refine-env prepare`",
        _write_download,
        _read_download,
        replaces=False,
        prepare=_prepare_download,
        forks_warm=False,
    ),
    Thing(
        "`refine-env evaluate`",
        _write_evaluation,
        runs._read_evaluation,
        replaces=False,
        grows=True,
        prepare=runs._prepare_evaluation,
    ),
    Thing(
        "`refine-env collect`",
        _write_collection,
        runs._read_collection,
        replaces=False,
        grows=True,
        prepare=runs._prepare_collection,
        forks_warm=False,
    ),
    Thing(
        "`refine-env view`",
        _write_page,
        partial(_read_files, names=["page.html"]),
        prepare=_prepare_finished,
    ),
    Thing(
        "`refine-env audit`",
        _write_audit,
        partial(_read_files, names=["a.json"]),
        prepare=_prepare_finished,
    ),
    Thing(
        "`refine-env recall`",
        _write_recall,
        partial(_read_files, names=["recall.json", "recall.md"]),
        grows=True,
        prepare=_prepare_finished,
    ),
    Thing(
        "`refine-env export`",
        _write_questions,
        partial(_read_files, names=["questions.parquet"]),
        replaces=False,
    ),
)
