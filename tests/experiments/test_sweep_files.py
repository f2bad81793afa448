"""Sweep files: W&B's own checks, and the command lines that its agent makes of them."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from experiments.inputs import InputError
from experiments.sweeping.command import filled, run_command
from experiments.sweeping.proposals import grid_size, propose
from experiments.sweeping.records import FINISHED, RunRecord
from experiments.sweeping.sweep_file import SWEEPS, Sweep, read_sweep, sweeps_package
from experiments.train_config import load_config

FILES = sorted(SWEEPS.glob("*.yaml"))
SIZES = {"learning-rate-kl": 9, "protocol": 3, "refine-weight": 8, "top-k": 7}
COMMAND = ["${env}", "${program}", "output=runs/{run}", "${args_no_hyphens}"]


def written(folder: Path, **settings: Any) -> Path:
    """A sweep file with these settings over those of a small grid; None leaves one out."""
    small = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "held_out/reward", "goal": "maximize"},
        "parameters": {"a": {"values": [1, 2]}, "b": {"values": ["x", "y"]}},
        "command": COMMAND,
    }
    path = folder / "small.yaml"
    told = {key: value for key, value in (small | settings).items() if value is not None}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


def tried(sweep: Sweep, most: int) -> list[RunRecord]:
    """The runs that a sweep proposes, each finished with another value of the metric."""
    runs: list[RunRecord] = []
    while len(runs) < most:
        histories = {run.id: [0.1 * number] for number, run in enumerate(runs)}
        values = propose(sweep, runs, histories, seed=3)
        if values is None:
            break
        runs.append(RunRecord(id=f"{len(runs):03d}", parameters=values, state=FINISHED))
    return runs


# The files that ship


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_sweeps_are_valid_for_both_of_wandbs_validators(path: Path) -> None:
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweeps_package().schema_violations_from_proposed_config(settings) == []
    controller = pytest.importorskip("wandb.wandb_controller")._WandbController
    assert controller._validate(object.__new__(controller), settings) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_sweeps_vary_settings_of_training(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every proposed run is one that `refine-env train` takes, in a folder of its own."""
    monkeypatch.setenv("WANDB_RUN_ID", "ab12")
    sweep = read_sweep(Path(path.stem))
    runs = tried(sweep, most=12)
    assert len(runs) == SIZES.get(path.stem, 12)
    configs = set()
    for run in runs:
        env, program, train, flag, config, *overrides = filled(
            sweep.settings["command"], sweep.settings["program"], run.parameters
        )
        assert (env, program, train, flag) == ("/usr/bin/env", "refine-env", "train", "--config")
        loaded = load_config(Path(config), overrides)
        assert loaded.output == Path(f"runs/sweeps/{path.stem}/ab12")
        assert loaded.resume == "auto"
        configs.add(repr(loaded))
    assert len(configs) == len(runs)


def test_the_protocol_sweep_changes_nothing_but_protocol_and_reward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "ab12")
    base = load_config(Path("autorefine-3b")).env_options
    sweep = read_sweep(Path("protocol"))
    found = [run.parameters["env_options"] for run in tried(sweep, most=3)]
    assert found[0] == dict(base)
    assert [(o["protocol"], o["reward"]) for o in found] == [
        ("autorefine", "official"),
        ("search_r1", "search_r1"),
        ("research", "research"),
    ]
    for options in found:
        assert {**options, "protocol": "autorefine", "reward": "official"} == dict(base)


def test_a_folder_for_each_run_needs_the_agents_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    with pytest.raises(InputError, match=r"runs/x/\{run\} has a folder for each run.*WANDB_RUN_ID"):
        load_config(None, ["output=runs/x/{run}"])


# Command lines


def agents_command(
    monkeypatch: pytest.MonkeyPatch, folder: Path, command: list[Any], values: dict[str, Any]
) -> list[str]:
    """What W&B's agent would start for these values."""
    agents = pytest.importorskip("wandb.wandb_agent")
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace()

    monkeypatch.setattr(agents, "AgentProcess", start)
    monkeypatch.setenv("WANDB_DIR", str(folder))
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which it sets, to be put back
        monkeypatch.setenv(name, "")
    agent = agents.Agent(None, queue.Queue(), sweep_id="s")
    agent._sweep_command = list(command)
    told = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "ab12", "program": "train.py", "args": told})
    return started[0]


@pytest.mark.parametrize(
    "macro",
    [
        *("args", "args_no_hyphens", "args_no_equals", "args_no_boolean_flags", "args_json"),
        *("args_append_hydra", "args_override_hydra"),
    ],
)
def test_macros_are_filled_in_as_wandbs_agent_fills_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, macro: str
) -> None:
    monkeypatch.setenv("MY_VARIABLE", "mine")
    command = [
        "${env}",
        "${interpreter}",
        "${program}",
        "a-${envvar:MY_VARIABLE}",
        3,
        f"${{{macro}}}",
    ]
    values = {
        "grpo.learning_rate": 5e-05,
        "env_options.reward": {"name": "linear", "refine_weight": 0.05},
        "grpo.mask_documents": False,
        "grpo.bf16": True,
        "policy": "a folder",
    }
    expected = agents_command(monkeypatch, tmp_path, command, values)
    assert filled(command, "train.py", values) == expected
    assert expected[:5] == ["/usr/bin/env", "python", "train.py", "a-mine", "3"]


def test_the_default_command_is_wandbs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert filled(None, "train.py", {"a": 1}) == agents_command(monkeypatch, tmp_path, [], {"a": 1})


def test_a_value_that_is_a_mapping_reaches_training_as_one() -> None:
    reward = {"name": "linear", "refine_weight": 0.05}
    words = filled(["${args_no_hyphens}"], None, {"env_options.reward": reward})
    assert load_config(None, words).env_options["reward"] == reward


def test_a_run_here_differs_in_its_folder_and_overrides_alone(tmp_path: Path) -> None:
    there = filled(COMMAND, "p", {"a": 1})
    here = run_command(COMMAND, "p", {"a": 1}, tmp_path / "001", ["grpo.steps=1"])
    assert here == [*there[:2], f"output={tmp_path / '001'}", *there[3:], "grpo.steps=1"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["${argz}", "output=x"], r"no macro \$\{argz\}; known: .*args_no_hyphens"),
        (["${program}", "${args}"], r"must have a line such as `- output="),
    ],
)
def test_commands_that_cannot_be_run_say_why(
    tmp_path: Path, command: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_command(command, "p", {"a": 1}, tmp_path)


# Files that are wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "griddy"}, "griddy"),
        ({"method": None}, "'method' is a required property"),
        ({"parameters": None}, "parameters must hold at least one"),
        ({"parameters": {"a": 3}}, "parameter 'a' must hold value, values or a distribution"),
        ({"parameters": {"a": {"valuez": [1]}}}, "valuez"),
        ({"parameters": {"a": {"min": 3, "max": 1}}}, "min 3 is not less than max 1"),
        ({"metric": None}, "metric is missing"),
        ({"metric": {"name": "x", "goal": "higher"}}, "higher"),
        ({"early_terminate": {"type": "hyperbend", "min_iter": 1}}, "hyperbend"),
        ({"run_cap": 0}, "run_cap must be an integer of at least 1, got 0"),
        ({"command": None, "program": None}, "command or program is missing"),
        ({"comand": ["x"]}, "comand"),
    ],
)
def test_wrong_sweeps_are_refused_with_the_reason(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_sweep(written(tmp_path, **settings))
    assert "small.yaml is no sweep that W&B would take" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "is not YAML"), ("- a\n", "must hold a sweep"), ("", "hold")]
)
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_sweep(path)


def test_a_file_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(InputError, match=r"did you mean 'top-k'\? shipped ones: bayes, .*top-k"):
        read_sweep(Path("topk"))


def test_a_grid_over_what_has_no_end_is_refused(tmp_path: Path) -> None:
    sweep = read_sweep(written(tmp_path, parameters={"a": {"min": 0.1, "max": 0.2}}))
    with pytest.raises(InputError, match="Grid search requires all parameters"):
        propose(sweep, [], {}, 0)


# What is tried


def test_a_grid_tries_everything_once_parameters_within_parameters_too(tmp_path: Path) -> None:
    parameters = {
        "a": {"min": 1, "max": 3},
        "b": {"parameters": {"c": {"values": ["x", "y"]}, "d": {"value": 5}}},
    }
    sweep = read_sweep(written(tmp_path, parameters=parameters))
    found = [run.parameters for run in tried(sweep, most=20)]
    assert len(found) == grid_size(sweep) == 6
    assert {(p["a"], p["b"]["c"], p["b"]["d"]) for p in found} == {
        (a, c, 5) for a in (1, 2, 3) for c in "xy"
    }


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_what_is_tried_depends_on_seed_and_results_alone(tmp_path: Path, method: str) -> None:
    parameters = {
        "rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "inner": {"parameters": {"weight": {"min": 0.0, "max": 1.0}}},
        "kind": {"values": ["x", "y"]},
    }
    sweep = read_sweep(written(tmp_path, method=method, parameters=parameters))
    one, other = ([run.parameters for run in tried(sweep, most=6)] for _ in range(2))
    assert one == other
    assert len({repr(values) for values in one}) == 6
    assert all(type(values["rate"]) is float for values in one)
    assert all(1e-4 <= values["rate"] <= 1e-2 for values in one)
    assert propose(sweep, [], {}, seed=3) != propose(sweep, [], {}, seed=4)


def test_bayes_looks_where_the_results_are_good(tmp_path: Path) -> None:
    sweep = read_sweep(
        written(tmp_path, method="bayes", parameters={"x": {"min": 0.0, "max": 1.0}})
    )
    runs = [RunRecord(id=str(i), parameters={"x": i / 10}, state=FINISHED) for i in range(11)]
    histories = {run.id: [-((run.parameters["x"] - 0.73) ** 2)] for run in runs}
    values = propose(sweep, runs, histories, seed=0)
    assert values is not None
    assert abs(values["x"] - 0.73) < 0.1
