"""The commands around sweeps: `refine-env sweep` and `refine-env sweep-summary`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.inputs import InputError, extra

app = typer.Typer()


@app.command(
    epilog="Examples: `refine-env sweep learning-rate-kl --local grpo.steps=10`; `refine-env sweep "
    "bayes --local --runs 20 --workers 2`; `refine-env sweep top-k` says how with W&B"
)
def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            help="W&B's YAML file, or a shipped one: learning-rate-kl, refine-weight, top-k, "
            "protocol, bayes."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of all runs as key=value.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run it here, without an account.")
    ] = False,
    runs: Annotated[
        int | None, typer.Option(help="Stop at so many; all of a grid without.", min=1)
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/sweeps/NAME without.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what random and bayes try.", min=0)] = 0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Start runs again that have failed.")
    ] = False,
) -> None:
    """Try many settings: here with --local, else with W&B's agents, which need an account.

    The same command goes on with a sweep that was interrupted.
    """
    with extra("sweeps"):
        from experiments import sweep as sweeping

    if not local:
        given = {"key=value": overrides, "--runs": runs, "--output": output}
        named = [name for name, value in given.items() if value]
        sweeping.explain(file, unused=named)
        return
    if not sweeping.run_locally(
        file,
        output,
        overrides or [],
        runs=runs,
        workers=workers,
        seed=seed,
        retry_failed=retry_failed,
    ):
        raise typer.Exit(130)


@app.command(
    "sweep-summary",
    epilog="Examples: `refine-env sweep-summary runs/sweeps/top-k`; `refine-env sweep-summary "
    "runs/a runs/b runs/c --metric held_out/f1 --output runs/abc`",
)
def sweep_summary(
    folders: Annotated[
        list[Path], typer.Argument(help="Folder of a sweep, or folders of training runs.")
    ],
    metric: Annotated[
        str | None, typer.Option(help="Name of a figure; the sweep's own, or held_out/reward.")
    ] = None,
    minimize: Annotated[
        bool, typer.Option("--minimize", help="Low values of --metric are the good ones.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the files; a single folder without.")
    ] = None,
) -> None:
    """Table, plot and importance of the settings that differ between runs."""
    if metric is None and minimize:
        raise InputError("--minimize is about --metric: name it, too")
    with extra("sweeps"):
        from experiments import sweep as sweeping

    sweeping.summarize(folders, metric, minimize, output)
