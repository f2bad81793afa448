"""A part's folder (data, pictures, section) and the report that merges those that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.pages import folded, markdown_table, page, save_figure
from experiments.reproduction.arms import ARMS, Run
from experiments.reproduction.parts.base import Findings, Part, Table, cell
from experiments.reproduction.registry import PARTS
from experiments.reproduction.results import Results
from experiments.reproduction.runs import Place, imitator_of
from experiments.reproduction.statistics import Claim, plain
from experiments.reproduction.warm_starts import Base
from refine_env.files import write_whole

DATA, SECTION, NOTES, PICTURE = "data.json", "section.md", "notes.md", "figure"
_CLAIMS = ("claim", "verdict", "here", "paper", "where")


def write_part(part: Part, results: Results, folder: Path) -> Findings:
    """Write the data, the pictures and the section of a part.

    `notes.md` in the folder, written by hand, becomes a part of the section. Raises `InputError`
    where runs are missing.
    """
    findings = part.find(results)
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(part, results)
    told = {
        "part": part.name,
        "title": part.title,
        **facts,
        "claims": plain(findings.claims),
        "tables": plain(findings.tables),
        "drawn": plain(findings.drawn),
    }
    write_whole(folder / DATA, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    save_figure(_figure(part, findings), folder / PICTURE)
    write_whole(folder / SECTION, _section(part, findings, facts, folder))
    return findings


def _figure(part: Part, findings: Findings) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=part.size, layout="constrained")
    part.draw(findings, figure)
    return figure


def _facts(part: Part, results: Results) -> dict[str, Any]:
    """How a part came about."""
    place = results.place
    arms = [arm for arm in part.arms if results.has(arm)]
    return {
        "scale": place.scale.name,
        "seeds": list(results.seeds),
        "questions": len(
            results.columns(Run(arms[0], results.seeds[0]), part.arms[arms[0]][0])["id"]
        ),
        "command": command(part.name, place.scale.name, len(results.seeds)),
        "commits": results.commits(arms),
        "cpu_seconds": _cost(place, arms, results.seeds),
        "settings": {arm: results.settings(arm) for arm in arms},
    }


def command(part: str, scale: str, seeds: int) -> str:
    """What gives a part again."""
    return f"refine-env reproduce {part} --scale {scale} --seeds {seeds}"


def _cost(place: Place, arms: Sequence[str], seeds: Sequence[int]) -> float:
    """CPU seconds of the runs of a part with all that they start from, were it run alone."""
    works: dict[str, None] = {}
    for arm in arms:
        for seed in seeds:
            start = imitator_of(ARMS[arm], seed)
            works |= dict.fromkeys((str(Base(start.size)), str(start), str(Run(arm, seed))))
    files = [place.cost(name) for name in works]
    spent = [json.loads(f.read_text(encoding="utf-8")) for f in files if f.is_file()]
    return round(sum(item["cpu_seconds"] for item in spent), 1)


def _section(part: Part, findings: Findings, facts: Mapping[str, Any], folder: Path) -> str:
    """The section as Markdown; pictures are named from its folder."""
    notes = folder / NOTES
    parts = [
        f"# {part.title}",
        part.about,
        _claims_table(findings.claims) if findings.claims else "",
        f"![{part.title}]({PICTURE}.png)",
        notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        *(_table(table) for table in findings.tables),
        findings.more,
        _how(facts),
    ]
    return "\n\n".join(text for text in parts if text) + "\n"


def _claims_table(claims: Sequence[Claim]) -> str:
    rows = [
        (claim.text, f"**{claim.verdict}**", claim.ours, claim.paper or "–", claim.source)
        for claim in claims
    ]
    return markdown_table(_CLAIMS, rows, text_columns=5)


def _table(table: Table) -> str:
    rows = [[cell(value) for value in row] for row in table.rows]
    text = f"### {table.title}\n\n{markdown_table(table.header, rows)}"
    return f"{text}\n\n{table.note}" if table.note else text


def _how(facts: Mapping[str, Any]) -> str:
    minutes = facts["cpu_seconds"] / 60
    lines = [
        f"`{facts['command']}`: seeds {', '.join(map(str, facts['seeds']))}, "
        f"{facts['questions']} test questions, begun at commit {', '.join(facts['commits'])}, "
        f"{minutes:.0f} CPU minutes with the warm starts.",
        folded(
            "Settings of the arms",
            f"```json\n{json.dumps(facts['settings'], indent=1, sort_keys=True)}\n```",
        ),
    ]
    return "\n\n".join(lines)


HOW_TO_READ = (
    "Means are over seeds, each of which is a mean over the test questions; in brackets stands the "
    "95 % interval over the seeds (Student's t). In pictures dots are seeds, bands their range. "
    "Arms are compared seed by seed, each with a warm start of its own, and question by question; "
    "p-values come from flipping signs: the first of the seeds' differences (with five seeds no "
    "less than 0.0625), the second of the questions'. A claim is *shown* where the interval over "
    "the seeds leaves 0 out on its side and the questions' p-value is below 0.05, *opposite* on "
    "the other side, else *not shown*. Nothing is corrected for the number of claims. The last "
    "policy of a run is tested, on questions that neither training nor warm start has seen; no "
    "setting was chosen by them."
)


def write_report(folder: Path, title: str) -> list[str]:
    """Merge the parts that are in the folder into `report.md` and `report.html`; their names."""
    there = [name for name in PARTS if (folder / name / SECTION).is_file()]
    told = [json.loads((folder / name / DATA).read_text(encoding="utf-8")) for name in there]
    rows = [
        (f"[{data['title']}](#{data['title'].lower().replace(' ', '-')})", claim["text"],
         f"**{claim['verdict']}**", claim["ours"], claim["paper"] or "–")
        for data in told
        for claim in data["claims"]
    ]  # fmt: skip
    introduction = folder / "introduction.md"
    text = "\n\n".join(
        [
            f"# {title}",
            introduction.read_text(encoding="utf-8").strip() if introduction.is_file() else "",
            "## Claims",
            markdown_table(("part", *_CLAIMS[:4]), rows, text_columns=5),
            "## How to read this",
            HOW_TO_READ,
            *(_within(folder / name / SECTION, name) for name in there),
        ]
    )
    write_whole(folder / "report.md", text + "\n")
    write_whole(folder / "report.html", page(title, text, folder))
    return there


def _within(path: Path, name: str) -> str:
    """A section as part of the report: one level down, its pictures in its folder."""
    lines = []
    for line in path.read_text(encoding="utf-8").strip().splitlines():
        line = f"#{line}" if line.startswith("#") else line
        lines.append(line.replace(f"({PICTURE}.png)", f"({name}/{PICTURE}.png)"))
    return "\n".join(lines)
