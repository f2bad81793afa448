"""Training runs side by side: which runs, how grouped, what of damaged ones, what is written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console

from agents.base import run_episodes
from agents.tracking import RunFacts, Tracker
from experiments import cli
from experiments.inputs import InputError
from experiments.report import ReportConfig, as_data, compare, run
from experiments.run_report.groups import group_runs
from experiments.run_report.runs import named_apart, read_run
from experiments.run_report.text import build
from experiments.run_report.transcripts import best_and_worst
from experiments.training_folders import find_runs
from refine_env import AutoRefineEnv, Question
from refine_env.serialization import save_episodes

QUIET = Console(file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 (as long as the tests)
HELD_OUT = (0.2, 0.5, 0.8)
"""Rewards at the steps 0, 2 and 4, where a run is not told otherwise."""


def made(
    folder: Path,
    *,
    seed: int = 0,
    held_out: Sequence[float] = HELD_OUT,
    finished: bool = True,
    reward: str = "autorefine",
    **settings: Any,
) -> Path:
    """A run's folder: a line of training a step, an evaluation every two."""
    facts = RunFacts(
        name=folder.name,
        dataset="miniwiki",
        protocol="autorefine",
        reward=reward,
        commit="0b0a63576978",
    )
    tracker = Tracker(folder, facts)
    grpo = {"steps": 4, "learning_rate": 0.001, **settings, "seed": seed}
    config = {"env": "AutoRefine-MiniWiki-v0", "output": str(folder), "grpo": grpo}
    config["env_options"] = {"reward": reward}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for number, value in enumerate(held_out):
        for step in range(max(1, 2 * number - 1), 2 * number + 1):
            tracker.metrics(step, training_line(step, value))
        tracker.metrics(2 * number, held_out_line(value, 2 * number))
    if finished:
        tracker.finish()
    return folder


def training_line(step: int, value: float) -> dict[str, float]:
    return {
        "seconds": 10.0 * step,
        "reward/total": value,
        "metric/searches": 1 + value,
        "metric/search_success": value,
        "metric/refine_success": value,
    }


def held_out_line(value: float, step: int) -> dict[str, float]:
    return {
        "seconds": 10.0 * step,
        "held_out/reward": value,
        "held_out/reward_low": value - 0.1,
        "held_out/reward_high": value + 0.1,
        "held_out/questions": 200.0,
        "held_out/em": value / 2,
        "held_out/f1": value,
        "held_out/searches": 1 + value,
    }


def reported(tmp_path: Path, *runs: Path, **options: Any) -> Mapping[str, Any]:
    """What `report.json` holds; everything is written to `out`."""
    config = ReportConfig(runs=[str(path) for path in runs], output=tmp_path / "out", **options)
    run(config, QUIET)
    return json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))


def compared(*runs: Path, **options: Any) -> tuple[Mapping[str, Any], str]:
    """What `report.json` and `report.md` hold, without the plots, which take a second."""
    read = named_apart([read_run(path) for path in runs])
    found = compare(read, ReportConfig(runs=runs, **options))
    parts = (found.title, read, found.groups, found.differences, found.notes)
    return as_data(found), build(*parts, {}, best_and_worst(read))


def markdown(tmp_path: Path) -> str:
    return (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


# Which runs


def test_folders_of_runs_and_patterns_stand_for_their_runs_each_once(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    runs = [made(sweep / f"run-{number}", held_out=()) for number in (10, 2)]
    (sweep / "plots").mkdir()
    (sweep / "sweep.json").write_text("{}")
    found = find_runs([runs[0], str(sweep), f"{sweep}/*", f"{sweep}/../sweep/run-2"])
    assert found.runs == (runs[0], runs[1])
    assert found.left_out == (str(sweep / "plots"), str(sweep / "sweep.json"))
    assert find_runs([tmp_path]).runs == (runs[1], runs[0])  # run-2 before run-10


def test_what_is_no_run_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "results.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "evaluation": "evaluation is no training run .*, but results.json; .*refine-env compare",
        "empty": "empty is no training run .*, but nothing at all",
        "evaluation/results.json": "results.json is a file",
        "nowhere": "nowhere is not there",
        "n*": "fits nothing",
        "e*": "fits 2 names, none of them a training run",
    }.items():
        with pytest.raises(InputError, match=message):
            find_runs([tmp_path / name])


# What is written


def test_the_report_has_all_its_parts(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / f"{reward}-{seed}", seed=seed, reward=reward, held_out=(0.2, 0.5, last))
        for reward, lasts in {"autorefine": (0.8, 0.9), "f1": (0.6, 0.5)}.items()
        for seed, last in enumerate(lasts)
    ]
    data = reported(tmp_path, *runs, title="Two rewards")
    names = "report.html report.md report.json held_out.png held_out.svg training.png training.svg "
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *names.split(), "groups.png", "groups.svg",
    }  # fmt: skip
    text = markdown(tmp_path)
    assert re.findall("^#+ .*", text, re.MULTILINE) == [
        "# Two rewards", "## Runs", "### What to know of them", "## Settings",
        "## Learning curves", "## Groups", "## Differences between groups",
    ]  # fmt: skip
    assert (
        "| autorefine-1 | finished | 4 of 4 | 0.900 [0.800, 1.000] | 200 | 0.900 | – | 0.450 "
        "| 0.900 | 1.90 | 40 | miniwiki | autorefine | autorefine | 0b0a63576978 |"
    ) in text
    assert "| run | env_options.reward | grpo.seed |" in text
    assert "<summary>3 settings that are equal in all runs</summary>" in text
    assert "Rewards are of different presets (autorefine, f1)" in text
    first, second = data["groups"]
    assert first["runs"] == ["autorefine-0", "autorefine-1"]
    mean = first["figures"]["held_out/reward"]
    assert (mean["mean"], mean["n"]) == (pytest.approx(0.85), 2)
    assert mean["low"] == pytest.approx(0.85 - 12.7062 * 0.05, abs=1e-4)
    reward = data["differences"][0]
    assert (reward["first"], reward["second"]) == ("reward autorefine", "reward f1")
    assert reward["seeds"] == [0, 1]
    assert reward["value"]["mean"] == pytest.approx(-0.3)
    assert second["values"] == {"env_options.reward": "f1"}
    with Image.open(tmp_path / "out" / "held_out.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn


def test_the_same_run_gives_the_same_bytes_and_older_plots_go(tmp_path: Path) -> None:
    folder, out = made(tmp_path / "a"), tmp_path / "out"
    reported(tmp_path, folder)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "groups.png" not in before  # there is but one
    (out / "groups.png").write_bytes(b"of an earlier report")
    reported(tmp_path, folder)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_best_and_worst_run_show_their_last_transcripts_closed(tmp_path: Path) -> None:
    class Forger:
        def act(self, transcripts: Sequence[Any]) -> list[str]:
            return ["<script>alert(1)</script>``` <answer> Vane </answer>"] * len(transcripts)

    question = Question("q1", "<b>Where</b> is Dray?", ["Vane"])
    env = AutoRefineEnv(questions=[question], retriever=NoSearch())
    episodes = run_episodes(env, Forger(), [question])
    for name, last in {"good": 0.9, "middle": 0.5, "bad": 0.1}.items():
        folder = made(tmp_path / name, held_out=(0.2, last))
        for step in (9, 10):
            path = folder / "transcripts" / f"step-{step:05d}.jsonl"
            path.parent.mkdir(exist_ok=True)
            save_episodes(path, episodes)
    reported(tmp_path, *(tmp_path / name for name in ("good", "middle", "bad")))
    assert re.findall("^### (.*step.*)", markdown(tmp_path), re.MULTILINE) == [
        "Best: good, step 10",
        "Worst: bad, step 10",
    ]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count("<summary>&lt;b&gt;Where&lt;/b&gt; is Dray? · reward 1.000</summary>") == 2
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;```") == 2
    assert "<script" not in html
    assert "<details open" not in html


class NoSearch:
    def search(self, queries: Sequence[str], k: int) -> list[list[Any]]:
        return [[] for _ in queries]


# Groups


def test_runs_that_differ_in_seed_and_place_alone_are_one_group(tmp_path: Path) -> None:
    runs = [read_run(made(tmp_path / str(seed), seed=seed, held_out=())) for seed in range(3)]
    assert [group.name for group in group_runs(runs)] == ["all runs"]
    runs.append(read_run(made(tmp_path / "other", learning_rate=0.01, held_out=())))
    runs.append(read_run(made(tmp_path / "less", learning_rate=1e-5, held_out=())))
    groups = group_runs(runs)
    assert [group.name for group in groups] == [
        "learning_rate 1e-05", "learning_rate 0.001", "learning_rate 0.01",
    ]  # fmt: skip
    assert [len(group.runs) for group in groups] == [1, 3, 1]


def test_group_names_settings_and_facts_and_tells_what_else_differs(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / f"{reward}-{rate}", reward=reward, learning_rate=rate)
        for reward in ("f1", "em")
        for rate in (0.1, 0.2)
    ]
    data, _ = compared(*runs, group=["reward"])
    assert [group["name"] for group in data["groups"]] == ["reward em", "reward f1"]
    assert "reward em: its runs differ in grpo.learning_rate, too." in data["notes"]
    by_both, _ = compared(*runs, group=["reward", "grpo.learning_rate"])
    assert len(by_both["groups"]) == 4
    with pytest.raises(InputError, match=r"no run has this setting; did you mean 'grpo.steps'\?"):
        compared(*runs, group=["grpo.step"])


def test_groups_that_differ_in_much_are_named_by_little(tmp_path: Path) -> None:
    long = [{"policy": f"{number}" * 40, "a": number, "b": number, "c": 7 + number}
            for number in range(3)]  # fmt: skip
    runs = [
        read_run(made(tmp_path / str(i), held_out=(), **settings))
        for i, settings in enumerate(long)
    ]
    groups = group_runs(runs)
    assert [group.name for group in groups] == ["a 0", "a 1", "a 2"]
    assert set(groups[0].values) == {"grpo.policy", "grpo.a", "grpo.b", "grpo.c"}


def test_two_runs_of_one_name_are_called_by_their_folders(tmp_path: Path) -> None:
    runs = [made(tmp_path / part / "seed-0") for part in ("a", "b")]
    data, _ = compared(*runs)
    assert [one["name"] for one in data["runs"]] == [str(path) for path in runs]


# Unfinished, damaged, other


def test_an_unfinished_run_is_told_as_such(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a"), made(tmp_path / "b", seed=1, held_out=(0.2, 0.5), finished=False)]
    data, text = compared(*runs)
    assert data["runs"][1]["status"] == "unfinished"
    assert data["runs"][1]["notes"] == [
        "unfinished: it is still running, or was killed, at step 2 of 4"
    ]
    assert "all runs: the last evaluations are of different steps (2, 4)." in data["notes"]
    assert "- b: unfinished: it is still running" in text


def test_damaged_runs_are_told_and_the_rest_of_them_is_shown(tmp_path: Path) -> None:
    whole, broken = made(tmp_path / "whole"), made(tmp_path / "broken")
    (broken / "run.json").write_text('{"na', encoding="utf-8")
    (broken / "config.yaml").write_text("a: [", encoding="utf-8")
    (broken / "best").mkdir()
    (broken / "best" / "best.json").write_text('{"step": 1}', encoding="utf-8")
    with (broken / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('garbage\n{"step": "x"}\n{"step": 9, "held_out/reward": NaN}\n{"step": 3')
    data, text = compared(whole, broken)
    notes = " / ".join(data["runs"][1]["notes"])
    assert "run.json is damaged" in notes
    assert "config.yaml is damaged" in notes
    assert "best/best.json is damaged (it holds other fields)" in notes
    assert "metrics.jsonl: 2 of 10 lines are damaged" in notes
    assert "the last line is cut short" in notes
    assert data["runs"][1]["last"]["held_out/reward"] == 0.8
    assert data["groups"][-1]["name"] == "broken (settings not known)"
    assert not data["differences"][0]["seeds"]  # nothing is known of its seed
    assert "not paired" in text


def test_runs_of_other_metrics_and_without_any_are_told(tmp_path: Path) -> None:
    sft = tmp_path / "sft"
    sft.mkdir()
    (sft / "metrics.jsonl").write_text('{"step": 1, "loss/total": 2.0}\n', encoding="utf-8")
    none = made(tmp_path / "none", held_out=())
    (none / "config.yaml").unlink()
    data, text = compared(made(tmp_path / "a"), sft, none)
    assert any("it has no held_out/reward" in note and "loss/total" in note
               for note in data["runs"][1]["notes"])  # fmt: skip
    assert "metrics.jsonl is missing: it has told no figures" in data["runs"][2]["notes"]
    assert len(data["runs"]) == len(data["groups"]) == 3
    assert text.count("| none |") == 2  # of runs and of settings


def test_damaged_transcripts_are_told(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    (folder / "transcripts").mkdir()
    (folder / "transcripts" / "step-00004.jsonl").write_text("{}\n", encoding="utf-8")
    assert "The rest cannot be shown: " in compared(folder)[1]


def test_other_held_out_questions_are_told(tmp_path: Path) -> None:
    best = {"step": 2, "score": 0.8, "low": 0.7, "high": 0.9, "n": 200, "split": "dev"}
    for name in ("a", "b"):
        (made(tmp_path / name) / "best").mkdir()
        text = json.dumps(best | {"questions": name})
        (tmp_path / name / "best" / "best.json").write_text(text, encoding="utf-8")
    data, text = compared(tmp_path / "a", tmp_path / "b")
    assert any("different held-out questions" in note for note in data["notes"])
    assert "0.800 [0.700, 0.900] | 2 |" in text


def test_names_that_would_be_markup_are_text(tmp_path: Path) -> None:
    name = "<script>alert(1)<|script> $x_{1$ \x1b[31m"
    runs = [made(tmp_path / name.replace("/", ""), reward=name), made(tmp_path / "_b")]
    reported(tmp_path, *runs, title="<img src=x>")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not set(re.findall(r"<(\w+)", html.split("<body>")[1])) & {"script", "b"}
    assert "<h1>&lt;img src=x&gt;</h1>" in html
    assert "\x1b" not in html + markdown(tmp_path)


# The command


def test_the_command_says_where_the_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "sweep" / "a")
    made(tmp_path / "sweep" / "b", learning_rate=0.1)
    out = tmp_path / "sweep" / "report"
    out.mkdir()  # an older report, not told of as if it were a run
    words = ["report", f"{tmp_path}/sweep/*", "--output", str(out)]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--group", "grpo.learning_rate,reward"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == ["2 runs in 2 groups", f"{out}/report.html"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--group", "reward,"])
    assert ended.value.code == 2
    assert "--group must name settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_run_has_all_that_the_report_shows(tmp_path: Path, random_policy: Path) -> None:
    from experiments.train import train
    from experiments.train_config import load_config

    words = (
        "env_options.max_turns=3 held_out_questions=4 held_out_every=1 wandb=disabled "
        "grpo.steps=2 grpo.questions_per_step=2 grpo.rollouts_per_question=4 grpo.micro_batch=4 "
        "grpo.turn_tokens=16 grpo.completion_tokens=160"
    ).split()
    train(load_config(None, [*words, f"policy={random_policy}", f"output={tmp_path}/a"]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data = reported(tmp_path, tmp_path / "a", tmp_path / "b")
    for one in data["runs"]:
        assert (one["status"], one["steps"], one["notes"]) == ("finished", 2, [])
        assert one["best"]["n"] == 4
        assert len(one["curves"]["held_out/reward"]) == 3
    assert "## Transcripts" in markdown(tmp_path)
