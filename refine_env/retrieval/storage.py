"""Saved indexes: a folder with a manifest, the passages and the engine's files, whole or not there.

    manifest.json   format, engine, parameters, corpus, library versions, the size and a checksum of
                    every file
    passages/       the corpus as a `PassageStore`; an engine names a passage by its place there
    ...             what the engine wrote

The corpus may stay where it is: a passage store is linked, not copied, where the disk allows it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from refine_env.datasets import passages
from refine_env.datasets.corpora import Corpus
from refine_env.datasets.passages import PassageStore, build_store, checksum, open_store
from refine_env.files import naming, scratch_folder
from refine_env.retrieval.manifests import FORMAT, MANIFEST, check_index_contents, read_manifest

PASSAGES = "passages"


class IndexWriter:
    """Writes an index beside its place and moves it there when all of it is written.

        with IndexWriter(folder, "bm25") as writer:
            passages = writer.add_passages(corpus)
            np.save(writer.path / "mine.npy", ...)
            writer.commit({"k1": 0.9}, libraries=("numpy",))

    Leaving without `commit` leaves what was there before. Entering raises `FileExistsError` when
    the folder is there, unless `overwrite`; what is no index is never replaced. An `OSError` of
    writing, on a full disk for instance, names the folder or a file in it.
    """

    def __init__(self, folder: str | Path, engine: str, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.engine = engine
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._scratch: Path | None = None
        self._passages: PassageStore | None = None

    @property
    def path(self) -> Path:
        """The folder to write into, on the same file system as the index's place."""
        if self._scratch is None:
            raise RuntimeError("an IndexWriter is written to inside its with block")
        return self._scratch / "new"

    @property
    def scratch(self) -> Path:
        """A folder beside it for what the index does not keep."""
        return self.path.parent / "scratch"

    def __enter__(self) -> IndexWriter:
        check_place(self.folder, self._overwrite)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(naming(self.folder))
        self._scratch = self._stack.enter_context(scratch_folder(self.folder))
        self.path.mkdir()
        self.scratch.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scratch = None
        self._stack.__exit__(kind, error, trace)

    def add_passages(self, corpus: Corpus) -> PassageStore:
        """Put the corpus into the index: a store's files are linked or copied, else written.

        The store that is returned lies in `path`: it serves until `commit`. Raises `ValueError`
        for an empty corpus and for an id that occurs twice.
        """
        folder = self.path / PASSAGES
        store = corpus.store
        if store is None:
            self._passages = build_store(folder, corpus.documents)
        else:
            folder.mkdir()
            for name in store.manifest["files"]:
                _link(store.folder / name, folder / name)
            # Where the corpus came from is no part of the index: it may go to another machine.
            _write_json(folder / passages.MANIFEST, {**store.manifest, "source": {}})
            self._passages = open_store(folder)
        return self._passages

    def commit(
        self,
        parameters: Mapping[str, Any],
        libraries: tuple[str, ...] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the manifest and move the folder to its place.

        `parameters` are what the engine is opened with, `libraries` the distributions whose
        versions are noted, `extra` what the engine checks when it is opened (`SavedIndex.require`).
        All are JSON. Raises `RuntimeError` before `add_passages`, `FileExistsError` when the
        folder came into being meanwhile.
        """
        if self._passages is None:
            raise RuntimeError("an index needs its passages: call add_passages first")
        new = self.path
        files = sorted(path for path in new.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "engine": self.engine,
            "parameters": dict(parameters),
            "corpus": {
                "fingerprint": self._passages.fingerprint,
                "documents": len(self._passages),
            },
            "libraries": {name: metadata.version(name) for name in libraries},
            "extra": dict(extra or {}),
            "files": {path.relative_to(new).as_posix(): path.stat().st_size for path in files},
            "checksums": {path.relative_to(new).as_posix(): checksum(path) for path in files},
        }
        _write_json(new / MANIFEST, manifest)
        check_place(self.folder, self._overwrite)
        _move(new, self.folder, new.parent / "old")
        self._passages = None


@dataclass(frozen=True, slots=True)
class SavedIndex:
    """An opened index: nothing of it is in memory until it is used."""

    manifest: dict[str, Any]
    passages: PassageStore
    folder: Path

    @property
    def fingerprint(self) -> str:
        """That of the corpus, see `Corpus.fingerprint`."""
        return self.passages.fingerprint

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.manifest["parameters"])

    @property
    def extra(self) -> dict[str, Any]:
        return dict(self.manifest["extra"])

    def require(self, name: str, needed: Any) -> None:
        """Raise `ValueError` unless the manifest's extra entry `name` is what the program needs."""
        found = self.manifest["extra"].get(name)
        if found != needed:
            raise ValueError(
                f"{self.folder}: the index has {name} {found!r}, this program needs {needed!r} "
                f"(made with {self.manifest['libraries']}); build the index again"
            )

    def require_library(self, name: str, numbers: int) -> None:
        """Raise `ValueError` unless the first `numbers` of a library's version are unchanged.

        2 takes 1.6.0 and 1.6.3 for the same, not 1.7.0. For engines whose results or files change
        with their library; one that is not installed raises `ImportError`.
        """
        made = str(self.manifest["libraries"].get(name, "an unknown version"))
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise ImportError(f"the index {self.folder} needs {name} {made}") from error
        if made.split(".")[:numbers] != installed.split(".")[:numbers]:
            raise ValueError(
                f"{self.folder}: made with {name} {made}, installed is {installed}; install "
                f"{name}=={made} or build the index again"
            )


def open_index(folder: str | Path, engine: str) -> SavedIndex:
    """Check the manifest against this program and the files, and map the passages.

    Raises `FileNotFoundError` when there is no index, `ValueError` where it cannot be trusted.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, engine)
    try:
        store = open_store(folder / PASSAGES, check=False)  # its files were, with all
        corpus = dict(manifest["corpus"])
        wanted = (corpus["fingerprint"], corpus["documents"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({error!r}); build the index again") from error
    if (store.fingerprint, len(store)) != wanted:
        raise ValueError(
            f"{folder} holds {len(store)} documents with fingerprint {store.fingerprint}, its "
            f"manifest says {wanted[1]} with {wanted[0]}; build the index again"
        )
    return SavedIndex(manifest, store, folder.absolute())


def check_files(folder: str | Path) -> None:
    """Read every file of a saved index, of any size, and compare its contents with the manifest's.

    Raises `FileNotFoundError` when there is no index, `ValueError` for a file that is not what was
    written, and for an index of an earlier program, which noted no checksums.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    engine = json.loads(path.read_text(encoding="utf-8"))["engine"] if path.is_file() else ""
    manifest = read_manifest(folder, engine)
    if "checksums" not in manifest:
        raise ValueError(f"{folder}: the index has no checksums; build it again to have them")
    check_index_contents(folder, manifest)


def check_place(folder: Path, overwrite: bool) -> None:
    """Raise `FileExistsError` where an index must not go: over anything but an older index."""
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{folder} is already there; overwrite=True (--overwrite) replaces it"
        )
    if folder.is_dir() and not any(folder.iterdir()):
        return
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        is_index = {"format", "engine", "files"} <= set(manifest)
    except (OSError, ValueError, TypeError):
        is_index = False
    if not is_index:
        raise FileExistsError(f"{folder} is no index: it is not replaced; remove it by hand")


def _move(new: Path, folder: Path, old: Path) -> None:
    """Put `new` in the place of `folder`, which is back there when that fails."""
    if not folder.exists():
        new.replace(folder)
        return
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where that is not possible. Stores are replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
