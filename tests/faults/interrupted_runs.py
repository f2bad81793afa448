"""More of what is written: a download, the folder of an evaluation, collected rollouts."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from refine_env.datasets import open_dataset
from refine_env.datasets.sources import Source
from tests.datasets.hub import serve
from tests.faults.interrupted_process import Done
from tests.faults.interrupted_things import Thing, digest

REPO = "team/data"
SOURCE = Source(REPO, ("nq/train.jsonl", "nq/test.jsonl"))
TOWNS = "Dray Vane Orvik Selby Tarn Islay Penrith Neston Quarry Brook Upper Lower".split()
_PARENT_DIED = 1  # the option of prctl that names the signal
_CHUNK = 4096
"""Bytes that the client takes at a time, so that a download is written bit by bit."""


def _lines(count: int) -> bytes:
    rows = [
        {"id": str(n), "question": f"Where is {TOWNS[n % 12]} {n}?", "answer": TOWNS[n % 7]}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@contextmanager
def hub() -> Iterator[None]:
    """A server like the hub, in a process of its own; `HUB_URL` names it to forked processes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with serve({REPO: {"nq/train.jsonl": _lines(400), "nq/test.jsonl": _lines(3)}}) as running:
            os.write(write, running.url.encode())
            os.close(write)
            ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
            while True:
                signal.pause()
    os.close(write)
    os.environ["HUB_URL"] = os.read(read, 1000).decode()
    os.close(read)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _prepare_download(root: Path) -> None:
    """Load the client once for all; it reads its settings when it is imported."""
    from huggingface_hub import constants, file_download, hf_api

    url = os.environ["HUB_URL"]
    constants.ENDPOINT = url
    for module in (constants, file_download, hf_api):
        name = "HUGGINGFACE_CO_URL_TEMPLATE"
        setattr(module, name, url + "/{repo_id}/resolve/{revision}/{filename}")
    constants.HF_HUB_CACHE = str(root.parent / "hub")
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    os.environ.pop("REFINE_ENV_DATA", None)


def _write_download(root: Path, version: int, done: Done) -> None:
    from refine_env.datasets.download import describe, fetch

    fetch(root / "nq", describe(SOURCE, ()), ())


def _read_download(root: Path, version: int) -> list[str]:
    return [
        digest(open_dataset("nq", split, data_dir=root / "nq").questions)
        for split in ("train", "test")
    ]


def _prepare_evaluation(root: Path) -> None:
    folder = root.parent / "data" / "nq"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_bytes(_lines(24))
    passages = [
        {"id": str(n), "title": town, "text": f"{town} is a village near {TOWNS[n % 7]}."}
        for n, town in enumerate(TOWNS)
    ]
    text = "".join(json.dumps(row) + "\n" for row in passages)
    (folder / "corpus.jsonl").write_text(text)


def _write_evaluation(root: Path, version: int, done: Done) -> None:
    from experiments.evaluate import EvaluateConfig, run

    config = EvaluateConfig(
        envs=("nq",),
        agent="random",
        questions=8 + version,
        data_dir=root.parent / "data" / "nq",
        output=root / "run",
    )
    run(config, Console(file=io.StringIO()))


def _read_evaluation(root: Path, version: int) -> list[str]:
    """A piece for each episode, and one for the figures; clocks apart."""
    from experiments.evaluation.work import read_finished
    from refine_env.serialization import load_entries

    path = root / "run" / "episodes.jsonl"
    pieces = []
    for episode, entry in load_entries(path):
        key, row = read_finished(_as_line(episode, entry))
        pieces.append(digest(key, {name: row[name] for name in row if name != "seconds"}, episode))
    results = root / "run" / "results.json"
    if results.is_file():
        figures = json.loads(results.read_text(encoding="utf-8"))
        figures.pop("clocks")
        pieces.append(digest(json.dumps(figures, sort_keys=True)))
    return pieces


def _as_line(episode: Any, entry: dict[str, Any]) -> str:
    from refine_env.serialization import episode_to_json

    return json.dumps(json.loads(episode_to_json(episode)) | entry)


def _prepare_collection(root: Path) -> None:
    """A policy with random weights, and everything that is imported."""
    import agents.collected  # noqa: F401 (once for all)
    import experiments.collect  # noqa: F401
    from agents import tiny

    folder = root.parent / "policy"
    if not folder.is_dir():
        tokenizer = tiny.build_tokenizer()
        tiny.build_model(tokenizer, seed=0, layers=1, hidden=32).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / tiny.PROTOCOL_FILE.name).write_bytes(tiny.PROTOCOL_FILE.read_bytes())


def _write_collection(root: Path, version: int, done: Done) -> None:
    from experiments.collect import run
    from experiments.collect_config import CollectConfig

    config = CollectConfig(
        policy=str(root.parent / "policy"),
        output=root / "run",
        env_options={"split": "train", "max_turns": 2},
        questions=6,
        rollouts=2,
        turn_tokens=8,
        completion_tokens=60,
        shard_size=4,
        places=4,
    )
    run(config, Console(file=io.StringIO()))


def _read_collection(root: Path, version: int) -> list[str]:
    from agents.collected import load_rollouts

    return [digest(row) for row in load_rollouts(root / "run")]


RUNS = (
    Thing(
        "download",
        _write_download,
        _read_download,
        replaces=False,
        prepare=_prepare_download,
        forks_warm=False,
    ),
    Thing(
        "evaluation's folder",
        _write_evaluation,
        _read_evaluation,
        replaces=False,
        grows=True,
        prepare=_prepare_evaluation,
    ),
    Thing(
        "collected rollouts",
        _write_collection,
        _read_collection,
        replaces=False,
        grows=True,
        prepare=_prepare_collection,
    ),
)
