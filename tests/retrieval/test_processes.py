"""Environments in threads, forked and spawned processes: same episodes, one index, no hang."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from refine_env import AutoRefineEnv, Question
from refine_env.retrieval import make_retriever
from refine_env.retrieval.bm25 import BM25Retriever
from refine_env.sharing import SharedCache
from refine_env.types import Document
from tests.retrieval.servers import SECONDS, running
from tests.retrieval.test_bm25 import WORDS, random_corpus

QUESTIONS = [Question(f"q{i}", f"Which {word}?", (word,)) for i, word in enumerate(WORDS)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "index"
    BM25Retriever.build(random_corpus(200)).save(folder)
    return folder


def episode(retriever: str) -> list[Any]:
    """What an environment of its own says in one episode."""
    env = AutoRefineEnv(QUESTIONS, retriever=retriever)
    seen: list[Any] = [env.reset(seed=3)]
    for word in WORDS[:4]:
        seen.append(env.step(f"<search> {word} </search>"))
    seen.append(env.step("<refine> a club </refine><answer> club </answer>"))
    return seen


def _play(retriever: str, results: Any) -> None:
    results.put(episode(retriever))


@pytest.mark.parametrize(("method", "count"), [("fork", 4), ("spawn", 1)])
def test_environments_in_other_processes(index: Path, method: str, count: int) -> None:
    context: Any = multiprocessing.get_context(method)
    spec = f"bm25:{index}"
    expected = episode(spec)  # the engine has been used before the fork
    results = context.Queue()
    workers = [context.Process(target=_play, args=(spec, results)) for _ in range(count)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [expected] * count
    for worker in workers:
        worker.join(SECONDS)
        assert worker.exitcode == 0


def test_environments_in_threads_share_one_index(index: Path) -> None:
    spec = f"bm25:{index}"
    expected = episode(spec)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(episode, [spec] * 24)) == [expected] * 24
        assert len({id(found) for found in threads.map(make_retriever, [spec] * 24)}) == 1


@pytest.mark.parametrize("spec", ["bm25:{index}", "cached:bm25:{index}", "{url}"])
def test_gymnasiums_asynchronous_vector_environment(index: Path, spec: str) -> None:
    with running(make_retriever(f"bm25:{index}")) as server:
        retriever = spec.format(index=index, url=server.url)
        expected = episode(retriever)

        def make() -> gym.Env[str, str]:
            return AutoRefineEnv(QUESTIONS, retriever=retriever)

        envs = gym.vector.AsyncVectorEnv([make] * 3, context="fork", shared_memory=False)
        try:
            observations, _ = envs.reset(seed=[3] * 3)
            assert list(observations) == [expected[0][0]] * 3
            for word, (observation, *_) in zip(WORDS[:4], expected[1:], strict=False):
                observations, *_ = envs.step([f"<search> {word} </search>"] * 3)
                assert list(observations) == [observation] * 3
        finally:
            envs.close(timeout=SECONDS)


def _child(cache: SharedCache[Any], results: Any) -> None:
    results.put(cache.get("key", lambda: BM25Retriever.build(random_corpus(5))).fingerprint)


def test_a_fork_while_another_thread_builds_an_index_does_not_hang() -> None:
    cache: SharedCache[Any] = SharedCache(keep=1)
    building, go = threading.Event(), threading.Event()

    def slow() -> BM25Retriever:
        building.set()
        assert go.wait(SECONDS)
        return BM25Retriever.build(random_corpus(5))

    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(cache.get, "key", slow)
        assert building.wait(SECONDS)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        worker = context.Process(target=_child, args=(cache, results))
        worker.start()
        try:
            assert results.get(timeout=SECONDS) == BM25Retriever.build(random_corpus(5)).fingerprint
        finally:
            go.set()
            worker.terminate()
            worker.join(SECONDS)
        assert held.result().search(["film"], 1)


def private_memory(pid: int) -> int:
    """Bytes that belong to a process alone, files that it has mapped not among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return 1024 * (int(sizes["Private_Dirty"]) + int(sizes["Private_Clean"]))


def _search_and_wait(folder: Path, results: Any, go: Any) -> None:
    gc.disable()  # a collection writes to all objects of the parent, which copies their memory
    small = BM25Retriever.build(random_corpus(5), backend="numba")
    assert small.search(["film"], 1)  # the compiled kernel is not the index's
    before = private_memory(multiprocessing.current_process().pid or 0)
    retriever = BM25Retriever.open(folder)
    for word in WORDS:
        assert retriever.search([word], 3)[0]
    results.put(private_memory(multiprocessing.current_process().pid or 0) - before)
    assert go.wait(SECONDS)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_a_saved_index_is_in_memory_once(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    texts = [" ".join([*WORDS, f"w{n}"] * 20) for n in range(6000)]
    BM25Retriever.build(Document(str(n), "", text) for n, text in enumerate(texts)).save(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    assert size > 8_000_000
    context = multiprocessing.get_context("fork")
    results, go = context.Queue(), context.Event()
    workers = [
        context.Process(target=_search_and_wait, args=(folder, results, go)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    own = [results.get(timeout=30) for _ in workers]
    go.set()
    for worker in workers:
        worker.join(SECONDS)
    # Scores of one query, and what Python takes; not the postings and passages.
    assert min(own) < size / 2
