"""Sweeps without an account: runs, failures, interruptions, runs that are given up."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from experiments import sweep as sweeping
from experiments.folder_lock import lock_folder
from experiments.inputs import InputError
from experiments.sweeping import local
from experiments.sweeping.progress import SweepProgress
from experiments.sweeping.proposals import given_up
from experiments.sweeping.records import (
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    RunRecord,
    read_record,
)
from experiments.sweeping.results import of_folders
from experiments.sweeping.sweep_file import Sweep, read_sweep

PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path

given = dict(word.split("=", 1) for word in sys.argv[1:])
output, a, b = Path(given["output"]), float(given["a"]), given["b"]
with open(output / "starts", "a") as file:
    file.write(f"{a:g} {b} {given.get('c')} {os.environ['OMP_NUM_THREADS']}\\n")
starts = len((output / "starts").read_text().splitlines())
scores = [a / 10 * step for step in range(4)]
with open(output / "metrics.jsonl", "w") as file:
    for step, score in enumerate(scores):
        file.write(json.dumps({"step": step, "held_out/reward": score}) + "\\n")
if b == "fails" and starts == 1:
    print("it is broken", file=sys.stderr)
    sys.exit(3)
if b == "waits" and a == 1:
    signal.alarm(60)
    signal.pause()
if b == "interrupts" and a == 2 and starts == 1:
    signal.alarm(60)
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()
"""


def small(folder: Path, b: list[str], **settings: Any) -> Path:
    """The file of a grid over a = 1, 2 and the given b, of a program that takes no time."""
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    told = {
        "name": "small",
        "program": str(program),
        "method": "grid",
        "metric": {"name": "held_out/reward", "goal": "maximize"},
        "parameters": {"a": {"values": [1, 2]}, "b": {"values": b}},
        "command": [
            *("${env}", "${interpreter}", "${program}"),
            *("output=runs/{run}", "${args_no_hyphens}"),
        ],
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(told | settings), encoding="utf-8")
    return path


def run(file: Path, folder: Path, **options: Any) -> str:
    """Run a sweep to its end, without its summary; what it said."""
    sweep, said = read_sweep(file), io.StringIO()
    with SweepProgress(Console(file=said, width=200), sweep.metric, sweep.maximize) as progress:
        assert local.LocalSweep(sweep, folder, **options).run(progress)
    return said.getvalue()


def states(folder: Path) -> dict[str, str]:
    record = read_record(folder)
    assert record is not None
    return {run.id: run.state for run in record.runs}


def starts(folder: Path) -> dict[str, int]:
    """How often each run was started."""
    return {
        path.parent.name: len(path.read_text().splitlines()) for path in folder.glob("*/starts")
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_grid_runs_each_in_its_folder_and_is_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    folder = tmp_path / "runs"
    said = io.StringIO()
    file, console = small(tmp_path, ["x", "y"]), Console(file=said, width=200)
    assert sweeping.run_locally(file, folder, ["c=5"], workers=workers, console=console)
    assert states(folder) == {f"00{number}": FINISHED for number in (1, 2, 3, 4)}
    lines = sorted(path.read_text().strip() for path in folder.glob("*/starts"))
    assert lines == ["1 x 5 1", "1 y 5 1", "2 x 5 1", "2 y 5 1"]
    assert "4/4" in said.getvalue()
    results = of_folders([folder])
    assert [row.value for row in results.rows] == pytest.approx([0.6, 0.6, 0.3, 0.3])
    for name in ("summary.json", "summary.csv", "sweep.png", "sweep.svg"):
        assert (folder / name).stat().st_size > 0


def test_a_run_that_fails_is_told_and_the_sweep_goes_on(tmp_path: Path) -> None:
    file, folder = small(tmp_path, ["fails", "x"]), tmp_path / "runs"
    said = run(file, folder)
    assert sorted(states(folder).values()) == [FAILED, FAILED, FINISHED, FINISHED]
    assert "failed" in said
    assert "it is broken" in said
    record = read_record(folder)
    assert record is not None
    assert {one.exit_code for one in record.runs if one.state == FAILED} == {3}
    run(file, folder)  # nothing is left to do
    assert set(starts(folder).values()) == {1}
    run(file, folder, retry_failed=True)
    assert set(states(folder).values()) == {FINISHED}


def test_an_interrupted_sweep_ends_its_run_and_goes_on(tmp_path: Path) -> None:
    file, folder = small(tmp_path, ["interrupts"]), tmp_path / "runs"
    command = [sys.executable, "-m", "experiments.cli", "sweep", str(file), "--local"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "--output", str(folder)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 130, done.stderr
    assert "The same command goes on" in done.stdout
    assert states(folder) == {"001": FINISHED, "002": RUNNING}
    said = run(file, folder)
    assert "1 runs have ended before" in said
    assert states(folder) == {"001": FINISHED, "002": FINISHED}
    assert starts(folder) == {"001": 1, "002": 2}
    lines = (folder / "002" / "starts").read_text().splitlines()
    assert lines[0] == lines[1]  # the same values


def test_more_runs_may_be_asked_for_later(tmp_path: Path) -> None:
    file, folder = small(tmp_path, ["x", "y"]), tmp_path / "runs"
    run(file, folder, runs=1)
    run(file, folder, runs=3)
    assert starts(folder) == {"001": 1, "002": 1, "003": 1}


def test_a_cap_in_the_file_ends_a_sweep_that_has_no_end(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    run(small(tmp_path, ["x", "y"], method="random", run_cap=2), folder)
    assert len(states(folder)) == 2
    with pytest.raises(InputError, match=r"a random sweep has no end of its own.*--runs"):
        run(small(tmp_path, ["x", "y"], method="random"), tmp_path / "other")


@pytest.mark.parametrize("what", ["settings", "overrides", "seed"])
def test_another_sweep_does_not_go_on_in_its_folder(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "runs"
    run(small(tmp_path, ["x"]), folder, runs=1)
    options: dict[str, Any] = {"overrides": ["c=1"]} if what == "overrides" else {}
    options |= {"seed": 1} if what == "seed" else {}
    file = small(tmp_path, ["y" if what == "settings" else "x"])
    with pytest.raises(InputError, match=f"holds a sweep with other {what}"):
        run(file, folder, **options)


def test_a_run_that_still_goes_on_by_itself_is_not_started_twice(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    (folder / "001").mkdir(parents=True)
    with (
        closing(lock_folder(folder / "001", "training")),
        pytest.raises(InputError, match=r"001 is in use by another training.*wait for it"),
    ):
        run(small(tmp_path, ["x"]), folder)
    assert not starts(folder)


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        run(small(tmp_path, ["x"]), tmp_path)


# Runs that are given up

EARLY = {"type": "hyperband", "min_iter": 1, "eta": 2}


def hyperband(folder: Path) -> Sweep:
    parameters = {"a": {"values": [1, 2, 3]}, "b": {"value": "waits"}}
    return read_sweep(small(folder, [], parameters=parameters, early_terminate=EARLY))


def test_hyperband_gives_up_the_worse_of_those_that_run(tmp_path: Path) -> None:
    sweep = hyperband(tmp_path)
    told = {"001": FINISHED, "002": RUNNING, "003": RUNNING}
    runs = [
        RunRecord(id=name, parameters={"a": 1, "b": "waits"}, state=state)
        for name, state in told.items()
    ]
    histories = {"001": [0.0, 0.3, 0.6], "002": [0.0, 0.1, 0.2], "003": [0.0, 0.4, 0.7]}
    assert given_up(sweep, runs, histories) == {"002"}
    assert given_up(sweep, runs, {}) == set()


def test_a_run_that_is_given_up_is_stopped_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LOOK_SECONDS", 0.0)
    folder = tmp_path / "runs"
    run(hyperband(tmp_path).file, folder, workers=3)
    assert states(folder) == {"001": STOPPED, "002": FINISHED, "003": FINISHED}
