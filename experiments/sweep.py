"""Sweeps on the command line: run here, told how to run with W&B, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.inputs import InputError, extra
from experiments.sweeping import summary
from experiments.sweeping.local import LocalSweep
from experiments.sweeping.progress import SweepProgress
from experiments.sweeping.sweep_file import read_sweep

RUNS = Path("runs/sweeps")


def run_locally(
    file: Path,
    output: Path | None,
    overrides: Sequence[str] = (),
    *,
    runs: int | None = None,
    workers: int = 1,
    seed: int = 0,
    retry_failed: bool = False,
    console: Console | None = None,
) -> bool:
    """Run a sweep on this machine and sum it up; False where it was interrupted.

    Raises `InputError` for what cannot be run.
    """
    console = console or Console()
    with extra("sweeps"):  # before the runs, not after them
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    sweep = read_sweep(file)
    folder = output or RUNS / sweep.name
    local = LocalSweep(
        sweep,
        folder,
        runs=runs,
        workers=workers,
        seed=seed,
        overrides=overrides,
        retry_failed=retry_failed,
    )
    console.print(f"Sweep {sweep.name} ({sweep.method}) in {folder}", highlight=False)
    with SweepProgress(console, sweep.metric, sweep.maximize) as progress:
        ended = local.run(progress)
    if not ended:
        console.print("The same command goes on.")
        return False
    summary.write(summary.of_folders([folder]), folder, console)
    return True


def explain(file: Path, unused: Sequence[str] = ()) -> None:
    """Say how W&B runs a sweep. Raises `InputError` for options that it would not get."""
    if unused:
        raise InputError(
            f"{', '.join(unused)}: for --local alone; with W&B, what the file says holds"
        )
    sweep = read_sweep(file)
    Console().print(
        f"{sweep.file} is a sweep that W&B takes: {sweep.method} over "
        f"{', '.join(sweep.settings['parameters'])}.\n\n"
        "With an account at W&B (`wandb login`), and where `refine-env` is on the PATH:\n"
        f"  wandb sweep {sweep.file}\n"
        "  wandb agent <the name that it prints>    # on as many machines as you like\n\n"
        "Without one, here:\n"
        f"  refine-env sweep {file} --local",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def summarize(
    folders: Sequence[Path], metric: str | None, minimize: bool, output: Path | None
) -> None:
    """Sum up a sweep, or any runs. Raises `InputError` where there is nothing to sum up."""
    found = summary.of_folders(folders, metric, maximize=not minimize)
    if output is None and len(folders) > 1:
        raise InputError("several folders: say by --output where the summary goes")
    summary.write(found, output or folders[0], Console())
