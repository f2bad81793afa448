"""What interrupting and damaging found, each a test named after it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refine_env.datasets import corpora, miniwiki, passages
from refine_env.datasets.corpora import Corpus
from refine_env.datasets.kept import store_place
from refine_env.datasets.miniwiki import streaming
from refine_env.datasets.passages import build_store, open_store
from refine_env.files import scratch_folder
from refine_env.retrieval import manifests, storage
from refine_env.retrieval.bm25 import BM25Retriever
from refine_env.retrieval.cache import CacheConfig, CachedRetriever
from refine_env.serialization import load_episodes
from refine_env.types import Document

DOCUMENTS = tuple(Document(str(n), f"Town {n}", f"Town {n} is a town.") for n in range(30))


class Killed(BaseException):
    """What a kill is to those who are killed."""


def changed(path: Path, place: int) -> None:
    """Flip a bit of a file; it keeps its size."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.unlink()  # it may be linked
    path.write_bytes(data)


def test_a_store_that_was_being_replaced_did_not_block_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been removed file by file: what was left of it was an error until removed by hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpora, "STORE_ABOVE", 0)
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "a"}\n')
    corpora.load_corpus(path)
    path.write_text('{"id": "2", "text": "bb"}\n')
    monkeypatch.setattr(passages, "replace_folder", _killed)
    with pytest.raises(Killed):
        corpora.load_corpus(path)
    folder, _ = store_place(path)
    assert open_store(folder).by_id("1")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpora, "STORE_ABOVE", 0)
    assert [document.id for document in corpora.load_corpus(path)] == ["2"]


def _killed(*_: Any) -> None:
    raise Killed


def test_a_world_written_over_another_is_never_half_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new corpus stood beside the old questions when the process was killed between two."""
    miniwiki.stream(tmp_path, level="tiny", size=440, world_seed=0)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    place = Path.replace
    for last in range(4):
        left = iter(range(last))

        def replace(path: Path, target: Path, left: Any = left) -> Path:
            if next(left, None) is None:
                raise Killed
            return place(path, target)

        monkeypatch.setattr(streaming.Path, "replace", replace)
        with pytest.raises(Killed):
            miniwiki.stream(tmp_path, level="tiny", size=440, world_seed=1)
        monkeypatch.undo()
        there = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
        assert len(there) == last and not any(old[name] == there[name] for name in there)
        assert not there or "corpus.jsonl" in there


def test_what_a_killed_build_left_beside_its_place_is_removed_by_the_next(tmp_path: Path) -> None:
    place = tmp_path / "index"
    code = (
        "import os, sys, pathlib, refine_env.files as f\n"
        "with f.scratch_folder(pathlib.Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').write_bytes(b'x' * 1000)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    assert [path.name for path in tmp_path.glob(".index.new-*/*")] == ["half"]
    with scratch_folder(place) as first, scratch_folder(place) as second:
        assert set(tmp_path.iterdir()) == {first, second}  # one in use stays
    assert not list(tmp_path.iterdir())


def test_a_changed_byte_of_an_index_is_noticed_when_it_is_opened(tmp_path: Path) -> None:
    """Sizes alone were compared: other scores, other texts, an IndexError in a search."""
    folder = tmp_path / "index"
    BM25Retriever.build(DOCUMENTS).save(folder)
    for path in sorted(path for path in folder.rglob("*") if path.name != storage.MANIFEST):
        if path.is_file():
            kept = path.read_bytes()
            changed(path, len(kept) * 2 // 3)
            name = path.relative_to(folder).as_posix()
            with pytest.raises(ValueError, match=f"{name} is not what was written"):
                BM25Retriever.open(folder)
            path.write_bytes(kept)
    assert BM25Retriever.open(folder).search(["town"], 1)[0]


def test_a_large_index_is_checked_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    BM25Retriever.build(DOCUMENTS).save(folder)
    storage.check_files(folder)
    monkeypatch.setattr(manifests, "CHECKED_BYTES", 0)
    changed(folder / "postings.scores.npy", 200)
    assert BM25Retriever.open(folder)
    with pytest.raises(ValueError, match=r"postings\.scores\.npy is not what was written"):
        storage.check_files(folder)
    with pytest.raises(FileNotFoundError, match="no saved index"):
        storage.check_files(tmp_path / "nowhere")


def test_an_index_without_checksums_still_opens(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    BM25Retriever.build(DOCUMENTS).save(folder)
    path = folder / storage.MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["checksums"]
    path.write_text(json.dumps(manifest))
    assert BM25Retriever.open(folder).search(["town"], 1)[0]
    with pytest.raises(ValueError, match="has no checksums"):
        storage.check_files(folder)


def test_a_changed_byte_of_a_passage_store_is_no_error_of_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one is checked when it is opened; of a large one a broken line says whose it is."""
    store = build_store(tmp_path / "store", DOCUMENTS)
    changed(store.folder / "offsets.npy", 128 + 8)
    with pytest.raises(ValueError, match=r"offsets\.npy is not what was written"):
        open_store(store.folder)
    monkeypatch.setattr(passages, "CHECKED_BYTES", 0)
    large = open_store(store.folder)
    with pytest.raises(ValueError, match="store is damaged: passage 0 cannot be read"):
        large[0]


def test_a_changed_answer_of_a_cache_is_searched_again(tmp_path: Path) -> None:
    """SQLite has no checksums: a flipped bit gave another document."""

    class Engine:
        def search(self, queries: list[str], k: int) -> list[list[Document]]:
            return [list(DOCUMENTS[:k]) for _ in queries]

    config = CacheConfig(path=tmp_path / "cache", index_id="x")
    right = CachedRetriever(Engine(), config).search(["q"], 2)
    with sqlite3.connect(tmp_path / "cache") as connection:
        (text,) = connection.execute("SELECT documents FROM answers").fetchone()
        changed_text = (text.replace("Town 0", "Town 4"),)
        connection.execute("UPDATE answers SET documents = ?", changed_text)
    again = CachedRetriever(Engine(), config)
    assert again.search(["q"], 2) == right
    assert (again.counts.disk_hits, again.counts.misses) == (0, 1)
    repaired = CachedRetriever(Engine(), config)
    assert repaired.search(["q"], 2) == right
    assert repaired.counts.disk_hits == 1


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"some notes", b"\x80\x04\x95.", b'{"name'])
def test_a_file_of_something_else_is_not_taken_for_a_line_that_was_cut(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of episodes"):
        list(load_episodes(path))
    path.write_bytes(b'{"version": 1, "que')
    assert list(load_episodes(path)) == []


def test_an_index_in_a_folder_of_a_linked_store_has_its_checksums(tmp_path: Path) -> None:
    """Linked files are those of the store: both manifests hold for them."""
    store = build_store(tmp_path / "store", DOCUMENTS)
    with storage.IndexWriter(tmp_path / "index", "mine") as writer:
        writer.add_passages(Corpus.of(store))
        writer.commit({})
    assert (store.folder / "text").samefile(tmp_path / "index" / "passages" / "text")
    storage.check_files(tmp_path / "index")
