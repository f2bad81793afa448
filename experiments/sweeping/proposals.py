"""Which values a sweep tries next, and which runs it gives up: asked of W&B's `sweeps` package."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from experiments.inputs import InputError
from experiments.sweeping.records import FINISHED, RUNNING, STOPPED, RunRecord
from experiments.sweeping.sweep_file import Sweep, sweeps_package

_INSIDE = "::"
"""Between the names of a parameter within another. The package's own grids with such parameters
have no end up to version 0.2, so it is given flat ones."""
_STATES = {FINISHED: "finished", RUNNING: "running", STOPPED: "killed"}
"""Our words -> the package's; all others are `failed`."""


def propose(
    sweep: Sweep, runs: Sequence[RunRecord], histories: Mapping[str, Sequence[float]], seed: int
) -> dict[str, Any] | None:
    """The values of the next run; None where all have been tried (a grid).

    The same for the same seed, runs and results. `histories`: the metric over each run, by id.
    Raises `InputError` for what the method cannot vary.
    """
    package = sweeps_package()
    config = {**sweep.for_package, "parameters": _flat_parameters(sweep.settings["parameters"])}
    known = [_as_package_run(package, sweep, run, histories.get(run.id, ())) for run in runs]
    try:
        with _seeded(seed, len(runs)):
            proposed = package.next_run(config, known)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{sweep.file}: {error}") from error
    if proposed is None:
        return None
    flat = {name: _plain(about["value"]) for name, about in proposed.config.items()}
    return _nested(flat)


def grid_size(sweep: Sweep) -> int:
    """Runs of a grid."""
    size = 1
    for about in _flat_parameters(sweep.settings["parameters"]).values():
        if "values" in about:
            size *= len({repr(value) for value in about["values"]})
        elif about.get("distribution") == "q_uniform":
            size *= len(np.arange(about["min"], about["max"], about.get("q", 1.0)))
        elif "min" in about:
            size *= about["max"] - about["min"] + 1
    return size


def given_up(
    sweep: Sweep, runs: Sequence[RunRecord], histories: Mapping[str, Sequence[float]]
) -> set[str]:
    """The ids of running runs that `early_terminate` ends; none where the sweep has no such."""
    if "early_terminate" not in sweep.settings:
        return set()
    package = sweeps_package()
    known = [_as_package_run(package, sweep, run, histories.get(run.id, ())) for run in runs]
    config = {**sweep.for_package, "metric": {"goal": "minimize", **sweep.settings["metric"]}}
    ended = {run.name for run in package.stop_runs(config, known)}
    return {run.id for run in runs if run.state == RUNNING and run.id in ended}


def _as_package_run(package: Any, sweep: Sweep, run: RunRecord, history: Sequence[float]) -> Any:
    made = package.SweepRun(
        name=run.id,
        state=package.RunState(_STATES.get(run.state, "failed")),
        config={name: {"value": value} for name, value in _flat(run.parameters).items()},
    )
    made.history = [{sweep.metric: value} for value in history]  # its argument's name has changed
    made.summary_metrics = dict(made.history[-1]) if made.history else {}
    return made


def _flat_parameters(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, about in parameters.items():
        inside = about.get("parameters")
        if isinstance(inside, Mapping):
            flat |= _flat_parameters(inside, f"{prefix}{name}{_INSIDE}")
        else:
            flat[f"{prefix}{name}"] = about
    return flat


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of a run as the package gets them; both readings of one that is a mapping."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat[f"{prefix}{name}"] = value
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}{_INSIDE}")
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, last = path.split(_INSIDE)
        place = nested
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = value
    return nested


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's: W&B's agent gets them through JSON."""
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """Seed the global generators, which the package draws from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    drawn = np.random.SeedSequence([seed, number]).generate_state(2)
    random.seed(int(drawn[0]))
    np.random.seed(int(drawn[1]))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
