"""The summary of a sweep: a table on the terminal, `summary.json`, `summary.csv`, the picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.inputs import extra
from experiments.pages import save_figure
from experiments.settings_text import last_parts
from experiments.sweeping.importance import Importance, importances, scale_of
from experiments.sweeping.results import Results, Row, of_folders
from refine_env.files import write_whole

__all__ = ["of_folders", "write"]


def write(results: Results, folder: Path, console: Console) -> list[Path]:
    """Write `summary.json`, `summary.csv`, `sweep.png` and `sweep.svg`, and show the table."""
    from experiments.sweeping.picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    with extra("sweeps"):
        found = importances(results)
        picture = draw(results, found)
    write_whole(folder / "summary.json", json.dumps(_plain(results, found), indent=2) + "\n")
    write_whole(folder / "summary.csv", _csv(results))
    pictures = save_figure(picture, folder / "sweep")
    _show(results, found, console)
    files = [folder / "summary.json", folder / "summary.csv", *pictures]
    console.print(f"summary  {', '.join(map(str, files))}", highlight=False, soft_wrap=True)
    return files


def _plain(results: Results, found: Mapping[str, Importance]) -> dict[str, Any]:
    rows = results.measured
    return {
        "name": results.name,
        "metric": results.metric,
        "goal": "maximize" if results.maximize else "minimize",
        "commit": results.commit,
        "runs_in_all": len(results.rows),
        "n": len(rows),
        "parameters": {
            name: {
                "scale": scale_of([row.parameters[name] for row in rows]).kind,
                "always_with": list(results.joined.get(name, ())),
                **(asdict(found[name]) if name in found else {}),
            }
            for name in results.varied
        },
        "runs": [asdict(row) | {"parameters": _told(results, row)} for row in results.rows],
    }


def _told(results: Results, row: Row) -> dict[str, Any]:
    """What of a run's parameters is varied."""
    names = [name for first in results.varied for name in (first, *results.joined.get(first, ()))]
    return {name: row.parameters.get(name) for name in names}


def _csv(results: Results) -> str:
    told = [_told(results, row) for row in results.rows]
    names = list(told[0]) if told else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "state", results.metric, f"best {results.metric}", "seconds", *names])
    for row, values in zip(results.rows, told, strict=True):
        cells = [row.id, row.state, row.value, row.best, row.seconds, *values.values()]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _show(results: Results, found: Mapping[str, Importance], console: Console) -> None:
    table = Table(title=f"{results.name}, by {results.metric}", title_justify="left")
    names = list(_told(results, results.rows[0])) if results.rows else []
    for title in ("run", "state"):
        table.add_column(title, no_wrap=True)
    for title in (results.metric.rpartition("/")[2], "best"):
        table.add_column(title, justify="right", no_wrap=True)
    for short in last_parts(names).values():
        table.add_column(short, justify="right", overflow="fold")
    for row in results.rows:
        cells = (row.value, row.best, *_told(results, row).values())
        table.add_row(row.id, row.state, *(_short(cell) for cell in cells))
    console.print(table)
    for name, about in found.items():
        level = f" (of {about.level})" if about.level else ""
        console.print(
            f"{name}: importance {about.importance:.2f}, "
            f"correlation {about.correlation:+.2f}{level}",
            markup=False,
            highlight=False,
        )
    console.print(
        f"n = {len(results.measured)} runs with {results.metric}, of {len(results.rows)}",
        highlight=False,
    )


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
