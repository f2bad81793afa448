"""A disk that runs full costs an error that says so, and nothing that was there.

Here two things and few sizes; `full_disk` does all.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refine_env.datasets import download, miniwiki
from refine_env.datasets.download import DownloadError, HubFile, fetch
from refine_env.datasets.miniwiki import streaming
from refine_env.datasets.passages import build_store
from refine_env.files import naming
from refine_env.retrieval import storage
from refine_env.retrieval.bm25 import BM25Retriever
from refine_env.types import Document
from tests.faults.full_disk import ENDS, THERE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")
ROOT = Path(__file__).parents[2]
DOCUMENTS = (Document("1", "Dray", "Dray is a village."), Document("2", "Vane", "Vane is a town."))


def report_of(folder: Path, *arguments: str) -> dict[str, dict[str, dict[str, int]]]:
    """What `full_disk` counted; it needs a process of its own, since it mounts and forks."""
    command = [sys.executable, "-m", "tests.faults.full_disk", "--folder", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    first = done.stdout.partition("\n")[0]
    if "--limit" not in arguments and first.startswith("limit"):
        pytest.skip(first)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    report: dict[str, dict[str, dict[str, int]]] = json.loads((folder / "report.json").read_text())
    return report


def test_a_writer_on_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    report = report_of(tmp_path / "x", "--count", "1", "--things", "BM25", "retrieval cache")
    assert set(report["BM25 index"]["kinds"]) == {"no room", "no more files", "read-only"}
    for tally in report.values():
        ends, there = tally["ends"], tally["there"]
        assert set(ends) == set(ENDS[:2]) and set(there) <= set(THERE[:-1])
        assert sum(ends.values()) == sum(there.values()) == sum(tally["kinds"].values()) > 15
    assert report["BM25 index"]["there"]["older whole"] > 0


def test_a_limit_on_the_size_of_files_stands_for_a_disk(tmp_path: Path) -> None:
    report = report_of(tmp_path / "x", "--count", "1", "--limit", "--things", "download")
    assert report["download"]["ends"].keys() == set(ENDS[:2])


# -- what was found


def test_a_write_beyond_the_end_of_a_disk_is_named(tmp_path: Path) -> None:
    """The system's own error and that of NumPy name no file; one that does is let through."""
    for raised, number in (
        (OSError(errno.EFBIG, "File too large"), errno.EFBIG),
        (OSError("400 requested and 0 written"), errno.ENOSPC),
    ):
        with pytest.raises(OSError, match=re.escape(str(tmp_path))) as caught, naming(tmp_path):
            raise raised
        assert caught.value.errno == number and str(raised.args[-1]) in str(caught.value)
    with pytest.raises(FileNotFoundError) as missing, naming(tmp_path):
        (tmp_path / "nowhere").read_bytes()
    assert missing.value.filename == str(tmp_path / "nowhere")


def _no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_index_and_a_store_without_room_name_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "save", _no_room)
    for write in (
        lambda: build_store(tmp_path / "store", DOCUMENTS),
        lambda: BM25Retriever.build(DOCUMENTS).save(tmp_path / "index"),
    ):
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/"):
            write()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="mine"), storage.IndexWriter(tmp_path / "i", "mine"):
        raise ValueError("mine")


def test_a_world_without_room_leaves_the_disk_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been written of it stayed beside the older world, on a disk that was full of it."""
    miniwiki.stream(tmp_path, level="tiny", size=440, world_seed=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(streaming, "_write", _no_room)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}"):
        miniwiki.stream(tmp_path, level="tiny", size=440, world_seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_download_without_room_blames_the_disk_and_not_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HubFile("team/data", "nq/train.jsonl", "c0", 10)

    def download_of(part: Path, file: HubFile) -> None:
        part.write_bytes(b"12345")
        _no_room()

    monkeypatch.setattr(download, "_download", download_of)
    with pytest.raises(DownloadError, match=r"cannot be filled \(.*No space left") as caught:
        fetch(tmp_path / "nq", [file], ())
    assert str(tmp_path / "nq") in str(caught.value) and "hub" not in str(caught.value)
    assert download.missing_bytes(tmp_path / "nq", [file]) == 5
