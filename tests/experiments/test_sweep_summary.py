"""What a sweep says in the end: order, importance, files, folders that are no runs."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from agents.tracking import RunFacts, Tracker
from experiments import sweep as sweeping
from experiments.inputs import InputError
from experiments.sweeping.importance import importances, scale_of
from experiments.sweeping.picture import draw, short_names
from experiments.sweeping.results import Results, Row, arranged, of_folders
from experiments.sweeping.summary import write


def results(rows: list[tuple[dict[str, Any], float | None]], maximize: bool = True) -> Results:
    return arranged(
        Results(
            name="planted",
            metric="held_out/reward",
            maximize=maximize,
            rows=[
                Row(
                    id=f"{number:03d}",
                    state="failed" if value is None else "finished",
                    parameters=parameters,
                    value=value,
                    best=value,
                )
                for number, (parameters, value) in enumerate(rows)
            ],
        )
    )


def planted() -> list[tuple[dict[str, Any], float | None]]:
    """24 runs whose metric is the logarithm of the rate, and a little noise; two more that failed.

    Kind and seed do nothing.
    """
    drawn = random.Random(0)
    rows: list[tuple[dict[str, Any], float | None]] = []
    for _ in range(24):
        rate = 10 ** drawn.uniform(-4, -2)
        kind, seed = drawn.choice(["x", "y", "z"]), drawn.randint(0, 9)
        value = math.log10(rate) + drawn.gauss(0, 0.05)
        rows.append(({"grpo.rate": rate, "kind": kind, "seed": seed, "steps": 5}, value))
    failed = [({"grpo.rate": 1e-3, "kind": "x", "seed": n, "steps": 5}, None) for n in (1, 2)]
    return rows + failed


def run_folder(folder: Path, settings: dict[str, Any], values: list[float]) -> Path:
    """What `refine-env train` leaves, as far as a summary reads it."""
    facts = RunFacts(name=folder.name, dataset="d", protocol="p", reward="r", commit=None)
    with Tracker(folder, facts) as tracker:
        for step, value in enumerate(values):
            tracker.metrics(step, {"seconds": float(step), "held_out/reward": value})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def test_a_planted_parameter_comes_first() -> None:
    found = importances(results(planted()))
    assert next(iter(found)) == "grpo.rate"
    assert found["grpo.rate"].importance > 0.9
    assert found["grpo.rate"].correlation > 0.95
    assert abs(found["seed"].correlation) < 0.6
    assert sum(about.importance for about in found.values()) == pytest.approx(1)
    assert "steps" not in found  # is the same in all runs


def test_a_planted_level_comes_first_and_is_named() -> None:
    drawn = random.Random(1)
    rows = [
        ({"kind": kind, "rate": drawn.random()}, float(kind == "y") + drawn.gauss(0, 0.05))
        for kind in "xyzxyzxyzxyz"
    ]
    found = importances(results(rows))
    assert next(iter(found)) == "kind"
    assert (found["kind"].level, round(found["kind"].correlation, 1)) == ("y", 1.0)
    *_, correlation = draw(results(rows), found).axes
    assert [label.get_text() for label in correlation.get_yticklabels()] == ["kind\n= y", ""]


def test_of_few_runs_or_equal_ones_nothing_is_said() -> None:
    rows = planted()
    assert importances(results(rows[:3])) == {}
    assert importances(results([(parameters, 0.5) for parameters, _ in rows])) == {}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1e-4, 1e-3], "log"),
        ([0.7, 1.0, 1.3], "linear"),
        ([0.0, 0.001, 0.01], "levels"),
        ([-1.0, 10.0], "linear"),
        ([1, 7], "linear"),
        ([8, 4096], "log"),
        (["x", 1], "levels"),
        ([True, False], "levels"),
        ([None, 0.1], "levels"),
    ],
)
def test_scales(values: list[Any], kind: str) -> None:
    assert scale_of(values).kind == kind


@pytest.mark.parametrize("maximize", [True, False])
def test_rows_stand_in_the_order_of_the_metric_those_without_last(maximize: bool) -> None:
    found = results(planted(), maximize)
    values = [row.value for row in found.rows]
    assert values[-2:] == [None, None]
    measured = [value for value in values if value is not None]
    assert measured == sorted(measured, reverse=maximize)
    assert len(found.measured) == 24


def test_parameters_that_always_change_together_are_one() -> None:
    pairs = [("autorefine", "official"), ("search_r1", "search_r1"), ("research", "research")]
    rows = [
        ({"e.protocol": p, "e.reward": r, "rate": 0.1 * n}, 0.1 * n)
        for n, (p, r) in enumerate(pairs * 2)
    ]
    found = results(rows)
    assert list(found.varied) == ["e.protocol", "rate"]
    assert found.joined == {"e.protocol": ["e.reward"]}
    assert short_names(found)["e.protocol"] == "protocol + reward"
    drawn = results([({"a": 0.1 * n, "b": 1 - 0.1 * n}, 0.1 * n) for n in range(5)])
    assert list(drawn.varied) == ["a", "b"]  # new numbers in each run are no sign of that


def test_files_say_what_the_table_says(tmp_path: Path) -> None:
    console = Console(record=True, width=160, file=(tmp_path / "said").open("w"))
    write(results(planted()), tmp_path, console)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert (told["n"], told["runs_in_all"], told["goal"]) == (24, 26, "maximize")
    assert told["parameters"]["grpo.rate"]["scale"] == "log"
    with (tmp_path / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines] == [run["id"] for run in told["runs"]]
    assert float(lines[0]["grpo.rate"]) == told["runs"][0]["parameters"]["grpo.rate"]
    assert lines[-1]["held_out/reward"] == ""
    assert "n = 24 runs with held_out/reward, of 26" in console.export_text()
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "sweep.svg").read_text().startswith("<?xml")


def test_a_summary_without_a_value_is_still_one(tmp_path: Path) -> None:
    rows = [({"a": 1}, None), ({"a": 2}, None)]
    write(results(rows), tmp_path, Console(quiet=True))
    assert json.loads((tmp_path / "summary.json").read_text())["n"] == 0


# Folders


def test_runs_of_wandbs_agent_are_summed_up_from_their_folders(tmp_path: Path) -> None:
    """A folder of runs, or the runs themselves; each once."""
    for number, rate in enumerate((0.1, 0.2)):
        settings = {
            "output": str(number),
            "grpo": {"rate": rate, "steps": 3},
            "env_options": {"reward": {"name": "linear"}},
        }
        run_folder(tmp_path / f"r{number}", settings, [0.9, rate])
    found = of_folders([tmp_path])
    assert [(row.id, row.value, row.best) for row in found.rows] == [
        ("r1", 0.2, 0.9),
        ("r0", 0.1, 0.9),
    ]
    assert list(found.varied) == ["grpo.rate"]
    assert found.rows[0].parameters["env_options.reward.name"] == "linear"
    named = of_folders([tmp_path / "r0", tmp_path / "r1", tmp_path / "r0"])
    assert named.rows == found.rows
    (tmp_path / "r2").mkdir()  # ended before it told anything
    (tmp_path / "r2" / "config.yaml").write_text("grpo: {rate: 0.3, steps: 3}", encoding="utf-8")
    assert [row.state for row in of_folders([tmp_path]).rows][2:] == ["no run.json"]
    shutil.rmtree(tmp_path / "r2")
    lowest = of_folders([tmp_path], "seconds", maximize=False)
    assert [row.best for row in lowest.rows] == [0.0, 0.0]


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty is no training run and holds none: .*config.yaml"):
        of_folders([tmp_path / "empty"])
    with pytest.raises(InputError, match="nowhere is not there"):
        of_folders([tmp_path / "nowhere"])


def test_several_folders_need_a_place_for_the_summary(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path / name, {"a": 1}, [0.1]) for name in "xy"]
    with pytest.raises(InputError, match="--output"):
        sweeping.summarize(runs, None, False, None)
