"""The comparison as Markdown: tables, what a reader must know of them, pictures, transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.evaluation.over_seeds import OverSeeds, with_interval
from experiments.pages import code, folded, markdown_table, plain
from experiments.run_report.groups import NONE, Group, differing
from experiments.run_report.plots import COLOURED, smoothing
from experiments.run_report.runs import FACTS, HELD_OUT, TrainingRun
from experiments.run_report.seeds import (
    FIGURES,
    GroupDifference,
    estimates,
    figure_of,
)
from experiments.run_report.transcripts import Shown

_ALL_PAIRS = 28
"""Of more pairs of groups (of more than eight groups) those with the best one are shown."""
_METHOD = (
    "Means over seeds with a 95 % interval by Student's t over the seeds, where there are two or "
    "more; runs of one seed count once, by their mean."
)


def build(
    title: str,
    runs: Sequence[TrainingRun],
    groups: Sequence[Group],
    found: Sequence[GroupDifference],
    notes: Sequence[str],
    plots: Mapping[str, Sequence[Path]],
    transcripts: Sequence[Shown],
) -> str:
    """The whole text; each section stands only where it has something to say."""
    parts = [f"# {plain(title)}", *_runs(runs), *_notes(runs, notes), *_settings(runs)]
    parts += _curves(groups, plots)
    parts += _groups(groups, plots)
    parts += _differences(groups, found)
    parts += _transcripts(transcripts)
    return "\n\n".join(parts) + "\n"


def comparability(runs: Sequence[TrainingRun], groups: Sequence[Group]) -> list[str]:
    """What stands in the way of reading the figures side by side."""
    notes = []
    bests = [run.best for run in runs if run.best is not None]
    questions = {str((best.split, best.n, best.questions)) for best in bests}
    told = {count for run in runs if (count := _held_out(run, "held_out/questions"))}
    if len(questions) > 1 or len(told) > 1:
        notes.append(
            "The runs were evaluated on different held-out questions: their scores differ by that, "
            "too."
        )
    rewards = {run.facts["reward"] for run in runs if "reward" in run.facts}
    if len(rewards) > 1:
        notes.append(
            f"Rewards are of different presets ({', '.join(sorted(rewards))}) and not of one "
            "scale: compare EM and F1."
        )
    if len({run.facts["dataset"] for run in runs if "dataset" in run.facts}) > 1:
        notes.append("The runs are of different datasets.")
    for group in groups:
        steps = sorted({int(run.held_out["step"]) for run in group.runs if run.held_out})
        if len(steps) > 1:
            which = ", ".join(map(str, steps))
            notes.append(f"{group.name}: the last evaluations are of different steps ({which}).")
    return notes


def _held_out(run: TrainingRun, name: str) -> float | None:
    return None if run.held_out is None else run.held_out.get(name)


def number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _runs(runs: Sequence[TrainingRun]) -> list[str]:
    header = [
        "run", "status", "steps", "last held-out reward [95 %]", "n", "best [95 %]", "at step",
        "EM", "F1", "searches", "seconds", *FACTS,
    ]  # fmt: skip
    table = markdown_table(header, [_run_cells(run) for run in runs], text_columns=2)
    about = (
        "Reward of greedy episodes on n held-out questions, with its bootstrap interval over the "
        "questions; EM, F1 and searches are of the last evaluation. The best of many evaluations "
        "flatters: it was chosen by its luck, too."
    )
    return ["## Runs", table, about]


def _run_cells(run: TrainingRun) -> list[str]:
    last, best = run.held_out, run.best
    reward, questions = NONE, None
    if last is not None:
        reward = with_interval(last[HELD_OUT], last.get("held_out/reward_low"), _high(last))
        questions = last.get("held_out/questions")
    kept = number(run.best_reward)
    if best is not None:
        kept = with_interval(best.score, best.low, best.high)
    planned = "" if run.planned is None else f" of {run.planned}"
    others = (number(_held_out(run, f"held_out/{name}")) for name in ("em", "f1"))
    return [
        plain(run.name),
        run.status,
        f"{run.steps}{planned}",
        reward,
        number(questions, 0),
        kept,
        NONE if best is None else str(best.step),
        *others,
        number(_held_out(run, "held_out/searches"), 2),
        number(run.seconds, 0),
        *(plain(run.facts.get(name, NONE)) for name in FACTS),
    ]


def _high(row: Mapping[str, float]) -> float | None:
    return row.get("held_out/reward_high")


def _notes(runs: Sequence[TrainingRun], notes: Sequence[str]) -> list[str]:
    lines = [f"- {plain(run.name)}: {plain(note)}" for run in runs for note in run.notes]
    lines += [f"- {plain(note)}" for note in notes]
    return ["### What to know of them", "\n".join(lines)] if lines else []


def _settings(runs: Sequence[TrainingRun]) -> list[str]:
    differ, equal = differing(runs)
    parts = ["## Settings"]
    if differ:
        rows = [
            [plain(run.name), *(_value(values[place]) for values in differ.values())]
            for place, run in enumerate(runs)
        ]
        header = ["run", *map(plain, differ)]
        parts.append(markdown_table(header, rows, text_columns=len(header)))
    elif len(runs) > 1 and equal:
        parts.append("The runs differ in none.")
    if equal:
        rows = [[plain(name), _value(value)] for name, value in equal.items()]
        count = f"{len(equal)} setting{'' if len(equal) == 1 else 's'}"
        every = "of the run" if len(runs) == 1 else "that are equal in all runs"
        parts.append(folded(f"{count} {every}", markdown_table(["setting", "value"], rows, 2)))
    return parts if differ or equal else []


def _value(text: str) -> str:
    return text if text == NONE else code(text)


def _curves(groups: Sequence[Group], plots: Mapping[str, Sequence[Path]]) -> list[str]:
    if not {"held_out", "training"} & set(plots):
        return []
    repeated = any(len(group.runs) > 1 for group in groups)
    said = []
    if repeated:
        said.append(
            "Lines are means over the runs of a group, bands reach from the lowest to the highest "
            "of them; dotted where only some runs have got so far."
        )
    if "training" in plots and (window := smoothing(groups)) > 1:
        said.append(
            f"Training curves are of sampled rollouts, as running means over {window} steps."
        )
    if len(groups) > COLOURED:
        said.append(
            f"The {COLOURED} groups with the highest last rewards have colours of their own."
        )
    parts = ["## Learning curves", *([" ".join(said)] if said else [])]
    if "held_out" in plots:
        parts.append("![Held-out reward over the steps](held_out.png)")
    if "training" in plots:
        parts.append("![Training reward, searches, search and refine success](training.png)")
    return parts


def _groups(groups: Sequence[Group], plots: Mapping[str, Sequence[Path]]) -> list[str]:
    told = [(group, estimates(group)) for group in groups]
    if len(told) == 1 and len(told[0][0].runs) == 1:
        return []
    shown = [figure for figure in FIGURES if any(figure in found for _, found in told)]
    rows = []
    for group, found in told:
        counted = found.get(HELD_OUT)
        seeds = "0" if counted is None else str(counted.n)
        cells = [_mean(found.get(figure)) for figure in shown]
        rows.append([plain(group.name), str(len(group.runs)), seeds, *cells])
    header = ["group", "runs", "seeds", *(FIGURES[figure] for figure in shown)]
    parts = ["## Groups", _METHOD, markdown_table(header, rows)]
    if "groups" in plots:
        parts += [
            "![Last held-out reward of the groups](groups.png)",
            "Diamonds are means with their intervals, dots the seeds.",
        ]
    return [*parts, folded("Settings and runs of the groups", _members(groups))]


def _members(groups: Sequence[Group]) -> str:
    """All settings in which groups differ, of which their names may have but a few."""
    names = list(dict.fromkeys(name for group in groups for name in group.values))
    rows = [
        [
            plain(group.name),
            *(_value(group.values.get(name, NONE)) for name in names),
            ", ".join(plain(run.name) for run in group.runs),
        ]
        for group in groups
    ]
    header = ["group", *map(plain, names), "runs"]
    return markdown_table(header, rows, text_columns=len(header))


def _mean(found: OverSeeds | None) -> str:
    return NONE if found is None else with_interval(found.mean, found.low, found.high)


def _differences(groups: Sequence[Group], found: Sequence[GroupDifference]) -> list[str]:
    if not found:
        return []
    shown, said = list(found), ""
    if len({(one.first, one.second) for one in found}) > _ALL_PAIRS:
        best = max(groups, key=_last_reward).name
        shown = [one for one in found if best in (one.first, one.second)]
        said = f" Only those with the best group, {plain(best)}, are shown; report.json has all."
    pairs: dict[tuple[str, str], dict[str, GroupDifference]] = {}
    for one in shown:
        pairs.setdefault((one.first, one.second), {})[one.figure] = one
    figures = list(dict.fromkeys(one.figure for one in shown))
    rows = []
    for (first, second), by_figure in pairs.items():
        seeds = len(next(iter(by_figure.values())).seeds)
        cells = [f"{plain(second)} − {plain(first)}", str(seeds) if seeds else "not paired"]
        for figure in figures:
            cells += _difference_cells(by_figure.get(figure))
        rows.append(cells)
    header = ["difference", "seeds"]
    header += [label for figure in figures for label in (f"{FIGURES[figure]} [95 %]", "p")]
    about = (
        "Differences of the last evaluations, paired by the seeds that both groups have: the mean, "
        "its 95 % interval by Student's t, and p by flipping signs, which with n seeds cannot fall "
        "below 2 / 2ⁿ. p is of each difference alone, not corrected for their number. Groups "
        f"without a common seed are not paired and have neither.{said}"
    )
    return ["## Differences between groups", about, markdown_table(header, rows)]


def _difference_cells(one: GroupDifference | None) -> list[str]:
    if one is None:
        return [NONE, NONE]
    return [
        with_interval(one.value.mean, one.value.low, one.value.high, sign="+"),
        number(one.p, 4),
    ]


def _last_reward(group: Group) -> float:
    values = [value for run in group.runs if (value := figure_of(run, HELD_OUT)) is not None]
    return sum(values) / len(values) if values else float("-inf")


def _transcripts(transcripts: Sequence[Shown]) -> list[str]:
    if not transcripts:
        return []
    parts = ["## Transcripts", "Rollouts of the last step, sampled, of the best and the worst run."]
    for shown in transcripts:
        parts.append(f"### {plain(shown.heading)}")
        parts += [folded(summary, block) for summary, block in shown.episodes]
        parts += [plain(shown.note)] if shown.note else []
    return parts
