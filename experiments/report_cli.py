"""The command `refine-env report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.inputs import InputError

app = typer.Typer()


@app.command(
    epilog="Examples: `refine-env report runs/a runs/b`; `refine-env report 'runs/sweep/*' "
    "--group grpo.learning_rate --output runs/report`"
)
def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folders of training runs, folders that hold such, or patterns."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for page, text, figures and plots.")] = Path(
        "runs/report"
    ),
    group: Annotated[
        str | None,
        typer.Option(
            help="Settings to group runs by, such as protocol,reward or grpo.learning_rate; all "
            "but the seed without."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:
    """Compare training runs on one page, from their folders alone."""
    by = [] if group is None else [name.strip() for name in group.split(",")]
    if not all(by):
        raise InputError(f"--group must name settings, separated by commas, got {group!r}")
    from experiments import report as reporting

    reporting.run(reporting.ReportConfig(runs=runs, output=output, group=by, title=title))
