"""Runs of the paper's experiments, carried out for real at the smallest scale there can be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.inputs import InputError
from experiments.reproduction import one_run, schedule
from experiments.reproduction.arms import ARMS, AS_TRAINED, BEFORE, DEPTHS, DROPPED, NOISES, Run
from experiments.reproduction.results import Results
from experiments.reproduction.runs import Place, condition_of, imitator_of, perform
from experiments.reproduction.scales import MINI, SCALES
from experiments.reproduction.schedule import Task, missing
from experiments.reproduction.testing import EPISODES, SCORES
from experiments.reproduction.warm_starts import Base
from refine_env.serialization import load_episodes
from tests.experiments.small_scales import SMALLEST, like_full

RUN = Run("autorefine", 0)
CONDITIONS = (AS_TRAINED, BEFORE, DROPPED, DEPTHS[5], NOISES[1.0])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run that was carried out with its warm start, task by task."""
    place = Place(SMALLEST, tmp_path_factory.mktemp("reproduction"))
    for stage in missing(place, {RUN: CONDITIONS}):
        for task in stage:
            task.carry_out(place)
    return place


def test_nothing_is_missing_when_all_is_done(place: Place) -> None:
    assert [list(stage) for stage in missing(place, {RUN: CONDITIONS})] == [[], [], []]


def test_a_run_is_measured_under_every_condition(place: Place) -> None:
    for condition in CONDITIONS:
        folder = place.tested(RUN, condition)
        columns = json.loads((folder / SCORES).read_text())
        episodes = list(load_episodes(folder / EPISODES))
        assert [episode.question.id for episode in episodes] == columns["id"]
        assert {len(values) for values in columns.values()} == {4}
        assert set(columns["dataset"]) == {"miniwiki"}
        assert all(episode.question.split == "test" for episode in episodes)
    deeper = list(load_episodes(place.tested(RUN, DEPTHS[5]) / EPISODES))
    assert all(episode.limits.top_k == 5 for episode in deeper)


def test_scores_and_curves_can_be_read(place: Place) -> None:
    results = Results(place, (0,))
    assert results.scores("autorefine", "em").shape == (1, 4)
    assert results.groups("autorefine")[:3] == ["all", "single-hop", "multi-hop"]
    curve = results.curve("autorefine", "held_out/em")
    assert curve is not None
    assert curve.steps == (0, 1)
    assert results.curve("autorefine", "held_out/nothing") is None


def test_what_it_took_is_noted(place: Place) -> None:
    for work in (Base("usual"), imitator_of(ARMS["autorefine"], 0), RUN):
        assert json.loads(place.cost(str(work)).read_text())["cpu_seconds"] > 0


def test_checkpoints_of_a_finished_run_are_gone(place: Place) -> None:
    assert (place.run(RUN) / "policy").is_dir()
    assert not (place.run(RUN) / "checkpoints").exists()


def test_a_finished_run_is_not_trained_again(place: Place) -> None:
    before = (place.run(RUN) / "metrics.jsonl").stat().st_mtime_ns
    perform(place, RUN, CONDITIONS)
    assert (place.run(RUN) / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_test_that_was_interrupted_is_done_again(place: Place) -> None:
    scores = place.tested(RUN, DROPPED) / SCORES
    before = scores.read_text()
    scores.unlink()  # written last
    perform(place, RUN, CONDITIONS)
    assert scores.read_text() == before


def test_all_protocols_start_from_one_base_and_the_same_episodes(place: Place) -> None:
    settings = place.scale.warm_start
    assert settings is not None
    runs = {Run(arm, 0): (AS_TRAINED,) for arm in ("search_r1", "research", "direct", "thoughts")}
    bases, starts, _ = missing(place, runs)
    assert not bases
    assert len(starts) == 4
    starts[1].carry_out(place)
    folder = imitator_of(ARMS["research"], 0).folder(place.root)
    assert "research-tiny" in (folder / "protocol.toml").read_text()


def test_other_settings_are_not_mixed_with_a_run(place: Place) -> None:
    changed = replace(place.scale, overrides=(*place.scale.overrides, "grpo.learning_rate=1e-5"))
    unfinished = Place(changed, place.root)
    policy = place.run(RUN) / "policy"
    policy.rename(place.run(RUN) / "aside")
    try:
        with pytest.raises(InputError, match="begun with other settings"):
            perform(unfinished, RUN, (AS_TRAINED,))
    finally:
        (place.run(RUN) / "aside").rename(policy)


def test_an_unknown_condition_or_arm_is_named() -> None:
    with pytest.raises(InputError, match="there is no condition 'k-99'"):
        condition_of("k-99")
    with pytest.raises(InputError, match="there is no arm 'autorefin'"):
        perform(Place(MINI, Path("nowhere")), Run("autorefin", 0), ())


@pytest.fixture
def launched(random_policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """A scale like the full one, without warm start and with a launcher, of a small policy."""
    scale = like_full(random_policy)
    monkeypatch.setitem(SCALES, scale.name, scale)
    return Place(scale, tmp_path)


def test_at_full_scale_a_run_is_launched_in_processes_of_its_own(
    launched: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []

    others = subprocess.run

    def run(command: Sequence[str], **options: Any) -> Any:
        if "experiments.reproduction.one_run" not in command:
            return others(command, **options)
        commands.append(command)
        one_run.main(*command[command.index("experiments.reproduction.one_run") + 1 :])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    wanted = {RUN: (AS_TRAINED, NOISES[1.0]), Run("direct", 0): (AS_TRAINED,)}
    for stage in missing(launched, wanted):
        list(schedule._reports(launched, stage, workers=1))
    assert [command[:3] for command in commands] == [["launcher", "--processes", "8"]] * 2
    assert (launched.run(RUN) / "policy").is_dir()
    assert not (launched.run(Run("direct", 0)) / "policy").exists()  # a prompt, not trained
    columns = json.loads((launched.tested(Run("direct", 0), AS_TRAINED) / SCORES).read_text())
    assert set(columns["searches"]) == {0.0}


def test_a_launched_run_that_fails_is_named(
    launched: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    with pytest.raises(InputError, match="autorefine, seed 0 ended with code 3"):
        list(schedule._reports(launched, [Task(RUN, (AS_TRAINED,))], workers=1))


@pytest.mark.slow
def test_two_processes_measure_what_one_does(launched: Place, tmp_path: Path) -> None:
    wanted = {RUN: (AS_TRAINED, DROPPED), Run("direct", 0): (AS_TRAINED,)}
    for stage in missing(launched, wanted):
        for task in stage:
            task.carry_out(launched)
    two = Place(launched.scale, tmp_path / "two")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    policy = launched.scale.policies["usual"]
    result = subprocess.run(
        [
            *launcher,
            "--nproc_per_node",
            "2",
            "-m",
            "tests.experiments.launched_run",
            policy,
            two.root,
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1500,  # a minute, but a busy machine takes many
    )
    assert result.returncode == 0, result.stderr
    for run, conditions in wanted.items():
        for condition in conditions:
            scores = (place.tested(run, condition) / SCORES for place in (launched, two))
            one, other = (json.loads(path.read_text()) for path in scores)
            assert one == other
