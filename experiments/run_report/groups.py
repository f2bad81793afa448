"""Which runs belong together: runs of equal settings, their seeds apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.inputs import InputError
from experiments.run_report.runs import FACTS, TrainingRun
from experiments.settings_text import HOUSEKEEPING, as_text, flat, last_parts
from refine_env.suggestions import did_you_mean

APART = frozenset({"grpo.seed"}) | HOUSEKEEPING
"""Settings in which runs of a group may differ: the seed, and what does not change training."""
NONE = "–"
"""Stands for a setting that a run does not have."""
_ONLY = "all runs"
"""Name of a group that is the only one."""
_NAMED = 3
"""Groups that differ in more settings are named by as few of them as tell them apart."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that count as repetitions of each other."""

    name: str
    """What sets it apart from the other groups."""
    values: Mapping[str, str]
    """Setting -> value, of those in which groups differ."""
    runs: tuple[TrainingRun, ...]


def told_settings(run: TrainingRun) -> dict[str, str]:
    """A run's settings as text by dotted names; none where they are not known."""
    found = flat(run.settings or {}, keep_empty=True)
    return {name: as_text(value) for name, value in found.items()}


def differing(runs: Sequence[TrainingRun]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(setting -> value of each run, for settings that differ; setting -> value, for equal ones).

    Runs whose settings are not known have `NONE` and make no difference. Without `output`, which
    always differs.
    """
    flats = [told_settings(run) for run in runs]
    names = dict.fromkeys(name for settings in flats for name in settings if name != "output")
    differ, equal = {}, {}
    for name in names:
        values = [settings.get(name, NONE) for settings in flats]
        known = {value for value, run in zip(values, runs, strict=True) if run.settings is not None}
        if len(known) > 1:
            differ[name] = values
        else:
            equal[name] = known.pop()
    return differ, equal


def group_runs(runs: Sequence[TrainingRun], by: Sequence[str] = ()) -> list[Group]:
    """The groups, in the order of the values in which they differ, numbers by their size.

    `by` names settings (`grpo.learning_rate`) or facts (`protocol`); without any, runs of a group
    are equal in all settings but `APART`, and one whose settings are not known stands alone.
    Raises `InputError` for a name that no run has.
    """
    keys = [_chosen(run, by) if by else _all(run) for run in runs]
    _check(by, runs)
    together: dict[tuple[tuple[str, str], ...], list[TrainingRun]] = {}
    for key, run in zip(keys, runs, strict=True):
        together.setdefault(tuple(sorted(key.items())), []).append(run)
    shared = [(dict(key), tuple(members)) for key, members in together.items()]
    known = [settings for settings, _ in shared if _ALONE not in settings]
    names = dict.fromkeys(name for key in keys for name in key if name != _ALONE)
    apart = [n for n in names if len({settings.get(n, NONE) for settings in known}) > 1]
    called = apart if by or len(apart) <= _NAMED else _fewest(apart, known)
    groups = [_group(settings, members, apart, called) for settings, members in shared]
    return sorted(groups, key=_order)


def _order(group: Group) -> list[tuple[int, float, str]]:
    """Numbers first, then words; a group whose settings are not known last."""
    if not group.values and group.name != _ONLY:
        return [(3, 0.0, group.name)]
    return [_size(value) for value in group.values.values()]


def _size(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return 1 + (value == NONE), 0.0, value


def _group(
    settings: Mapping[str, str],
    runs: tuple[TrainingRun, ...],
    apart: Sequence[str],
    called: Sequence[str],
) -> Group:
    if alone := settings.get(_ALONE):
        return Group(f"{alone} (settings not known)", {}, runs)
    values = {name: settings.get(name, NONE) for name in apart}
    short = last_parts(apart)
    named = ", ".join(f"{short[name]} {settings.get(name, 'not set')}" for name in called)
    return Group(named or _ONLY, values, runs)


def _fewest(names: Sequence[str], settings: Sequence[Mapping[str, str]]) -> list[str]:
    """A few of the names, whose values tell all the settings apart; short values first."""
    chosen: list[str] = []

    def gained(name: str) -> tuple[int, int]:
        told = [tuple(one.get(key, NONE) for key in (*chosen, name)) for one in settings]
        return -len(set(told)), sum(len(one.get(name, NONE)) for one in settings)

    while len({tuple(one.get(key, NONE) for key in chosen) for one in settings}) < len(settings):
        chosen.append(min((name for name in names if name not in chosen), key=gained))
    return [name for name in names if name in chosen]


_ALONE = ""
"""Stands among the settings of a run that has none, with its name."""


def _all(run: TrainingRun) -> dict[str, str]:
    if run.settings is None:
        return {_ALONE: run.name}
    return {name: value for name, value in told_settings(run).items() if name not in APART}


def _chosen(run: TrainingRun, by: Sequence[str]) -> dict[str, str]:
    return {name: value for name in by if (value := _value(run, name)) is not None}


def _value(run: TrainingRun, name: str) -> str | None:
    if name in FACTS:
        return run.facts.get(name)
    value: Any = run.settings
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return as_text(value)


def _check(by: Sequence[str], runs: Sequence[TrainingRun]) -> None:
    known = dict.fromkeys([*FACTS, *(name for run in runs for name in told_settings(run))])
    for name in by:
        if name not in FACTS and all(_value(run, name) is None for run in runs):
            raise InputError(
                f"--group {name}: no run has this setting"
                + did_you_mean(name, known, before="; ")
                + f"; {', '.join(FACTS)} and any setting of config.yaml can be named"
            )
