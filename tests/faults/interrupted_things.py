"""What is written: how, and what of it can be read afterwards.

A thing is read as a list of pieces, each the digest of some content: an index is one piece, a file
of episodes has as many as episodes. Everything is written below one folder, in two versions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from refine_env.datasets import miniwiki, open_dataset
from refine_env.datasets.corpora import Corpus, load_corpus
from refine_env.retrieval.bm25 import BM25Retriever
from refine_env.retrieval.cache import AnswerFile, CacheConfig, CachedRetriever
from refine_env.retrieval.indexing import build_index
from refine_env.types import Document, Episode
from tests.faults.interrupted_process import Done

DOCUMENTS = 160
QUERIES = 12
ANSWERS = 10


@dataclass(frozen=True)
class Thing:
    """A kind of thing that is written to the disk."""

    name: str
    write: Callable[[Path, int, Done], None]
    """Writes version 0 or 1 below a folder; says how many pieces are sure to be on the disk."""
    read: Callable[[Path, int], Sequence[str]]
    """The pieces that are there. Raises `FileNotFoundError` where there is none. The version says
    only what the reader has in mind, such as the settings of a run."""
    replaces: bool = True
    """Whether a newer version takes the place of an older one."""
    made_void: bool = False
    """Whether an older version is of no use to the reader of a newer one, and is not shown."""
    grows: bool = False
    """Whether some of the pieces are as good as can be had from a writer that was stopped."""
    prepare: Callable[[Path], None] = lambda root: None
    """Makes what is needed for the writing, before anything is interrupted."""
    forks_warm: bool = True
    """Whether a process that wrote it once can be forked: it left no connection and no setting."""


def digest(*parts: Any) -> str:
    """A short digest of what `parts` look like."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@lru_cache
def world(version: int) -> miniwiki.World:
    """The world that a version is about."""
    return miniwiki.build(level="tiny", size=440, world_seed=version)


def documents(version: int) -> tuple[Document, ...]:
    """The passages of a version."""
    return tuple(world(version).documents[:DOCUMENTS])


def queries(version: int) -> list[str]:
    """Names that the passages hold, and a question."""
    titles = [document.title for document in documents(version)[: QUERIES - 1]]
    return [*titles, world(version).questions["dev"][0].text]


def _retriever_pieces(retriever: Any, passages: Sequence[Document], version: int) -> list[str]:
    """One piece: every passage by its place, and what both versions' queries find."""
    found = retriever.search([*queries(0), *queries(1)], 5)
    by_id = [passages.by_id(document.id) for document in passages][:20]  # type: ignore[attr-defined]
    return [digest(list(passages), by_id, found)]


def _write_bm25(root: Path, version: int, done: Done) -> None:
    corpus = Corpus.of(documents(version))
    build_index("bm25", corpus, root / "index", {}, progress=False, overwrite=True)


def _read_bm25(root: Path, version: int) -> list[str]:
    opened = BM25Retriever.open(root / "index")
    return _retriever_pieces(opened, opened.passages, version)


def _encoder(root: Path) -> str:
    """A sentence encoder with random weights, 32 numbers a vector."""
    folder = root.parent / "encoder"
    if not folder.is_dir():
        import torch
        from transformers import BertConfig, BertModel

        from agents import tiny

        torch.manual_seed(0)
        tokenizer = tiny.build_tokenizer()
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, **sizes)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def _prepare_dense(root: Path) -> None:
    from refine_env.retrieval.dense import vectors

    vectors.SAVED = 64  # so that encoding makes several files
    _encoder(root)


def _write_dense(root: Path, version: int, done: Done, **more: str) -> None:
    options = {"encoder": _encoder(root), "convention": "minilm", "kind": "flat", **more}
    corpus = Corpus.of(documents(version))
    build_index("dense", corpus, root / "index", options, progress=False, overwrite=True)


def _read_dense(root: Path, version: int) -> list[str]:
    from refine_env.retrieval.dense import DenseRetriever

    opened = DenseRetriever.open(root / "index")
    return _retriever_pieces(opened, opened.passages, version)


def _prepare_published(root: Path) -> None:
    """The vectors of both versions, each as a published index in two parts."""
    from refine_env.retrieval.dense.conventions import convention_of
    from refine_env.retrieval.dense.encoder import Encoder
    from refine_env.retrieval.dense.published import write_flat
    from refine_env.retrieval.dense.vectors import ArrayVectors

    _prepare_dense(root)
    name = _encoder(root)
    encoder = Encoder(name, "passage", convention_of(name, "minilm"))
    for version in (0, 1):
        folder = root.parent / f"published-{version}"
        if not folder.is_dir():
            folder.mkdir()
            whole = folder / "whole"
            write_flat(ArrayVectors(encoder.passages(documents(version))), whole)
            data = whole.read_bytes()
            (folder / "part_aa").write_bytes(data[:5000])
            (folder / "part_ab").write_bytes(data[5000:])


def _write_published(root: Path, version: int, done: Done) -> None:
    _write_dense(root, version, done, vectors=str(root.parent / f"published-{version}"))


def _corpus_file(root: Path) -> Path:
    return root.parent / "corpus-file" / "corpus.jsonl"


def _prepare_store(root: Path) -> None:
    _corpus_file(root).parent.mkdir(exist_ok=True)


def _set_store(root: Path, version: int) -> None:
    """The corpus file of a version, which counts as large, and a cache below the root."""
    from refine_env.datasets import corpora

    corpora.STORE_ABOVE = 0
    os.environ["XDG_CACHE_HOME"] = str(root)
    rows = [{"id": one.id, "title": one.title, "text": one.text} for one in documents(version)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path = _corpus_file(root)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _write_store(root: Path, version: int, done: Done) -> None:
    _set_store(root, version)
    load_corpus(_corpus_file(root))


def _read_store(root: Path, version: int) -> list[str]:
    """What is kept, as long as it is of the file as it is."""
    from refine_env.datasets.kept import kept_store

    _set_store(root, version)
    store = kept_store(_corpus_file(root))
    if store is None:
        raise FileNotFoundError("no store is kept")
    return [digest(list(store), [store.by_id(one.id) for one in documents(version)])]


class Engine:
    """Finds some passages of a version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def search(self, queries: Sequence[str], k: int) -> list[list[Document]]:
        found = documents(self.version)
        return [list(found[len(query) : len(query) + k]) for query in queries]


def _cache_queries() -> list[str]:
    return [f"query {number} {'x' * number}" for number in range(ANSWERS)]


def _write_cache(root: Path, version: int, done: Done) -> None:
    config = CacheConfig(path=root / "cache.sqlite", index_id="engine")
    cached = CachedRetriever(Engine(version), config)
    for query in _cache_queries():
        cached.search([query], 3)


def _read_cache(root: Path, version: int) -> list[str]:
    """The answers that the file gives, each with its query."""
    if not (root / "cache.sqlite").is_file():
        raise FileNotFoundError("no cache")
    found = AnswerFile(root / "cache.sqlite", "engine", 100).get(
        (query, 3) for query in _cache_queries()
    )
    return [digest(key, found[key]) for key in sorted(found)]


def _write_world(root: Path, version: int, done: Done) -> None:
    miniwiki.stream(root / "world", level="tiny", size=440, world_seed=version)


def _read_world(root: Path, version: int) -> list[str]:
    """A piece for each split that can be opened, its corpus with it."""
    pieces = []
    for split in ("train", "dev", "test"):
        try:
            opened = open_dataset("custom", split, data_dir=root / "world")
        except FileNotFoundError:
            continue
        pieces.append(
            digest(
                split,
                opened.questions,
                sorted(d.id for d in opened.corpus.documents),
                opened.corpus.fingerprint,
            )
        )
    if not pieces:
        raise FileNotFoundError("no questions")
    return pieces


def episodes(version: int, count: int) -> list[Episode]:
    """Finished episodes of a version's questions."""
    from refine_env import AutoRefineEnv

    env = AutoRefineEnv(world(version).questions["train"], retriever=Engine(version))
    found = []
    for number in range(count):
        env.reset(options={"index": number})
        env.step(f"<search> {queries(version)[number % QUERIES]} </search>")
        env.step("<refine> a note </refine><answer> Vane </answer>")
        found.append(env.unwrapped.episode)
    return found


def _write_recorded(root: Path, version: int, done: Done) -> None:
    import gymnasium as gym

    from refine_env import AutoRefineEnv, EpisodeRecorder

    env: gym.Env[Any, str] = AutoRefineEnv(
        world(version).questions["train"], retriever=Engine(version)
    )
    path = root / "run" / "episodes.jsonl"
    there = len(_read_episodes(root, path.name)) if path.is_file() else 0
    env = EpisodeRecorder(env, path)
    for number in range(there, ANSWERS):
        env.reset(options={"index": number})
        env.step(f"<search> {queries(version)[number]} </search>")
        env.step("<refine> a note </refine><answer> Vane </answer>")
        done(number + 1)


def _read_episodes(root: Path, name: str) -> list[str]:
    from refine_env.serialization import load_episodes

    return [digest(episode) for episode in load_episodes(root / "run" / name)]


def _write_packed(root: Path, version: int, done: Done) -> None:
    from refine_env.serialization import save_episodes

    save_episodes(root / "run" / "episodes.jsonl.gz", episodes(version, ANSWERS))


def _read_packed(root: Path, version: int) -> list[str]:
    return _read_episodes(root, "episodes.jsonl.gz")


PLAIN = (
    Thing("BM25 index", _write_bm25, _read_bm25),
    Thing(
        "passage store of a large corpus",
        _write_store,
        _read_store,
        prepare=_prepare_store,
        made_void=True,
        forks_warm=False,
    ),
    Thing("retrieval cache", _write_cache, _read_cache, replaces=False, grows=True),
    Thing("MiniWiki's stream", _write_world, _read_world, grows=True),
    Thing(
        "recorded episodes",
        _write_recorded,
        lambda root, version: _read_episodes(root, "episodes.jsonl"),
        replaces=False,
        grows=True,
    ),
    Thing("packed episodes", _write_packed, _read_packed),
)
DENSE = (
    Thing("dense index, encoded", _write_dense, _read_dense, prepare=_prepare_dense),
    Thing(
        "dense index, vectors taken over", _write_published, _read_dense, prepare=_prepare_published
    ),
)
