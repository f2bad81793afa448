"""What was being written when its writer was stopped is whole, or not there, or says what is wrong.

Here a few interruptions of each kind; `interrupted_writing` and `interrupted_damage` do all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")
ROOT = Path(__file__).parents[2]
QUICK = ("BM25", "cache", "stream", "episodes")


def output_of(module: str, folder: Path, *arguments: str) -> str:
    """What a command says; it needs a process of its own, since it forks."""
    command = [sys.executable, "-m", f"tests.faults.{module}", "--folder", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_writers_that_are_stopped_leave_nothing_that_is_not_whole(tmp_path: Path) -> None:
    output_of("interrupted_writing", tmp_path / "x", "--quick", "--things", *QUICK)
    report = json.loads((tmp_path / "x" / "report.json").read_text())
    assert len(report) == 5
    for name, tally in report.items():
        assert tally["wrong"] == [], name
        assert sum(tally["outcomes"].values()) == sum(tally["stops"].values()) >= 6
        assert tally["stops"].keys() >= {"kill before a change", "kill within a write", "read-only"}


def test_damage_is_noticed_or_harmless_where_there_are_checksums(tmp_path: Path) -> None:
    arguments = ("--flips", "1", "--things", "BM25", "cache")
    last = output_of("interrupted_damage", tmp_path / "x", *arguments).splitlines()[-2:]
    assert [line.split(" | ")[-2:] for line in last] == [["0 / 0", "0 / 0 |"]] * 2


@pytest.mark.slow
def test_every_thing_interrupted_and_damaged(tmp_path: Path) -> None:
    output_of("interrupted_writing", tmp_path / "x", "--count", "3")
    output_of("interrupted_damage", tmp_path / "y", "--flips", "3")
