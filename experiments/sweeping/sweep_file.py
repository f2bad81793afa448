"""A sweep's YAML file, as `wandb sweep` takes it -> `Sweep`, checked by W&B's own schema."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.inputs import InputError, extra
from refine_env.suggestions import did_you_mean

SWEEPS = Path(__file__).parent.parent / "sweeps"
"""The sweeps that ship."""
METHODS = ("grid", "random", "bayes")
_OURS = ("run_cap",)
"""What the service knows and not every version of the `sweeps` package does: checked here."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep: what is varied, what is measured, and the command line of a run."""

    name: str
    file: Path
    settings: Mapping[str, Any]
    """All that the file holds."""

    @property
    def method(self) -> str:
        return str(self.settings["method"])

    @property
    def metric(self) -> str:
        return str(self.settings["metric"]["name"])

    @property
    def maximize(self) -> bool:
        return self.settings["metric"].get("goal", "minimize") == "maximize"

    @property
    def run_cap(self) -> int | None:
        """Runs after which the file says that it is enough."""
        return self.settings.get("run_cap")

    @property
    def for_package(self) -> dict[str, Any]:
        """The settings as the `sweeps` package knows them."""
        return {key: value for key, value in self.settings.items() if key not in _OURS}


def read_sweep(file: Path) -> Sweep:
    """The sweep of a file, which is named by its path or, where it ships, by its name.

    Raises `InputError` for what W&B would not take, and for what no run here could be made of.
    """
    shipped = SWEEPS / f"{file}.yaml"
    path = file if file.is_file() or not shipped.is_file() else shipped
    if not path.is_file():
        known = sorted(found.stem for found in SWEEPS.glob("*.yaml"))
        advice = did_you_mean(str(file), known, before=" ")
        raise InputError(f"no sweep at {file};{advice} shipped ones: {', '.join(known)}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict) or not settings:
        raise InputError(f"{path} must hold a sweep: method, metric, parameters and command")
    sweep = Sweep(str(settings.get("name") or path.stem), path, settings)
    wrong = _violations(sweep)
    if wrong:
        raise InputError(f"{path} is no sweep that W&B would take:\n  " + "\n  ".join(wrong))
    return sweep


def sweeps_package() -> Any:
    """W&B's `sweeps`. Raises `InputError` where it is not installed."""
    with extra("sweeps"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic, about the package's own code
        import sweeps
    return sweeps


def _violations(sweep: Sweep) -> list[str]:
    """What is wrong with a sweep; the package's words where it is the package that finds it."""
    settings = sweep.settings
    parameters = settings.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        return ["parameters must hold at least one, each with value, values or a distribution"]
    odd = [
        f"parameter {name!r} must hold value, values or a distribution, such as {{values: [1]}}"
        for name, about in parameters.items()
        if not isinstance(about, dict)
    ]
    if odd:
        return odd
    try:
        wrong = list(sweeps_package().schema_violations_from_proposed_config(sweep.for_package))
    except Exception as error:  # what is too far from a sweep raises in many ways there
        wrong = [str(error) or type(error).__name__]
    if wrong:
        return wrong
    if sweep.method not in METHODS:
        wrong.append(
            f"method {sweep.method!r} runs on W&B's side alone; here: {', '.join(METHODS)}"
        )
    if "metric" not in settings:
        wrong.append("metric is missing: name, such as held_out/reward, and goal")
    cap = sweep.run_cap
    if cap is not None and (type(cap) is not int or cap < 1):
        wrong.append(f"run_cap must be an integer of at least 1, got {cap!r}")
    if not settings.get("command") and not settings.get("program"):
        wrong.append("command or program is missing: there is nothing to run")
    return wrong
