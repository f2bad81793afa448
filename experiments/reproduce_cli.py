"""The command `refine-env reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.inputs import extra

app = typer.Typer()


@app.command(
    epilog="Examples: `refine-env reproduce main`; `refine-env reproduce all --seeds 5`; "
    "`refine-env reproduce ablation --scale full --dry-run`"
)
def reproduce(
    parts: Annotated[
        list[str],
        typer.Argument(
            help="main, ablation, search-frequency, search-quality, refinement, depth, "
            "reward-shape, noise, model-size, reward-hacking, or all."
        ),
    ],
    scale: Annotated[
        str, typer.Option(help="mini: a tiny policy on MiniWiki; full: Qwen2.5-3B, 8 GPUs.")
    ] = "mini",
    seeds: Annotated[int, typer.Option(help="Runs of each arm, with the seeds 0, 1, ...")] = 5,
    workers: Annotated[
        int | None, typer.Option(help="mini: runs side by side; a core for each without.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/reproduce/SCALE without.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the report; report in that of the runs without.")
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(help="full: what starts a run's processes; torchrun with eight without."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing.")] = False,
) -> None:
    """Run tables and figures of the paper again; interrupted, it goes on where it was."""
    with extra("train"):
        from experiments import reproduce as reproducing

    reproducing.run(
        reproducing.ReproduceConfig(
            parts=tuple(parts),
            scale=scale,
            seeds=seeds,
            workers=workers,
            runs=runs,
            output=output,
            launch=launch,
            dry_run=dry_run,
        )
    )
