"""How far a local sweep is: runs that have ended, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.sweeping.records import FINISHED, RunRecord


class SweepProgress:
    """A bar of runs, and a line above it for each that ends. A context manager."""

    def __init__(self, console: Console, metric: str, maximize: bool) -> None:
        self._console = console
        self._metric = metric
        self._sign = 1 if maximize else -1
        self._best: tuple[float, str] | None = None
        self._total: int | None = None
        self._done = 0
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[best]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, best="")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def start(
        self, total: int | None, ended: Sequence[tuple[RunRecord, Sequence[float]]] = ()
    ) -> None:
        """Say how many runs there will be, and which of them are done."""
        self._total, self._done = total, len(ended)
        for run, history in ended:
            self._take(run, history)
        if ended:
            self.say(f"going on: {len(ended)} runs have ended before")
        self._show()

    def ended(self, run: RunRecord, history: Sequence[float], why: str = "") -> None:
        """Tell of a run that has ended, with its last value of the metric."""
        self._done += 1
        self._take(run, history)
        told = f"{self._metric} {history[-1]:.4g}" if history else f"no {self._metric}"
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        values = "  ".join(f"{name}={_short(value)}" for name, value in run.parameters.items())
        line = f"{count}  {run.id} {run.state}  {told}  {values}  {run.seconds:.0f} s"
        self.say(f"{line}  ({why})" if why else line)
        self._show()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _take(self, run: RunRecord, history: Sequence[float]) -> None:
        if run.state != FINISHED or not history:
            return
        value = history[-1]
        if self._best is None or self._sign * value > self._sign * self._best[0]:
            self._best = value, run.id

    def _show(self) -> None:
        best = "" if self._best is None else f"best {self._best[0]:.4g} ({self._best[1]})"
        self._bar.update(self._task, total=self._total, completed=self._done, best=best)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
