"""Whether a long run stays as it was: the rule, and the picture.

The first quarter is left out: caches fill and a policy learns. Of what comes after it the last
third is compared with the first:

- memory is flat when the least reading has grown by less than 2 %. Within a step memory rises and
  falls; what leaks stays;
- time is flat when a step takes at most 1.2 times the processor time;
- handles, threads and processes have not grown when there are, by the median, no more of them.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.long_watch import Reading

_GROWTH = 0.02
_SLOWER = 1.2
COUNTS = ("handles", "threads", "processes")
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Flatness:
    """What is said of a run."""

    work: int
    """Steps of the whole run."""
    first_memory: int
    """Least resident bytes in the first third, and in the last."""
    last_memory: int
    slope: float
    """Bytes that a step has added, from the one to the other."""
    first_time: float
    """Processor seconds a step in the first third, and in the last."""
    last_time: float
    grown: tuple[str, ...]
    """Which of handles, threads and processes there are more of."""

    @property
    def memory_is_flat(self) -> bool:
        return self.last_memory < (1 + _GROWTH) * self.first_memory

    @property
    def time_is_flat(self) -> bool:
        return self.last_time <= _SLOWER * self.first_time

    @property
    def is_flat(self) -> bool:
        return self.memory_is_flat and self.time_is_flat and not self.grown

    def told(self) -> str:
        """The figures in a few lines."""
        time = f"{1000 * self.first_time:.4g} ms, then {1000 * self.last_time:.4g} ms"
        return "\n".join(
            [
                f"memory {_word(self.memory_is_flat)}: {self.first_memory / _MB:.1f} MB, then "
                f"{self.last_memory / _MB:.1f} MB, {self.slope:+.3g} bytes a step",
                f"time a step {_word(self.time_is_flat)}: {time} of processor time",
                f"more than before: {', '.join(self.grown) or 'nothing'}",
            ]
        )


def judge(readings: Sequence[Reading]) -> Flatness:
    """Apply the rule. Raises `ValueError` for fewer than 40 readings: too few to tell."""
    if len(readings) < 40:
        raise ValueError(f"{len(readings)} readings are too few to tell; at least 40 are needed")
    later = readings[len(readings) // 4 :]
    third = len(later) // 3
    first, last = later[:third], later[-third:]
    least = [min(part, key=lambda reading: reading.resident) for part in (first, last)]
    return Flatness(
        work=readings[-1].work,
        first_memory=least[0].resident,
        last_memory=least[1].resident,
        slope=(least[1].resident - least[0].resident) / max(1, least[1].work - least[0].work),
        first_time=_time_a_step(first),
        last_time=_time_a_step(last),
        grown=tuple(name for name in COUNTS if _median(last, name) > _median(first, name)),
    )


def draw(readings: Sequence[Reading], flatness: Flatness, path: Path, step: str) -> None:
    """Memory with its line, and time a step, over the steps (PNG); `step` says of what kind."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    memory, time = figure.subplots(1, 2)
    later = readings[len(readings) // 4 :]
    work = [reading.work for reading in readings]
    memory.plot(work, [reading.resident / _MB for reading in readings], color="tab:blue", lw=1)
    third = len(later) // 3
    for part, least in (
        (later[:third], flatness.first_memory),
        (later[-third:], flatness.last_memory),
    ):
        ends = [part[0].work, part[-1].work]
        label = f"{least / _MB:.1f} MB"
        memory.plot(ends, [least / _MB] * 2, color="black", lw=2)
        memory.annotate(
            *(label, (ends[1], least / _MB)),
            xytext=(0, -12),
            textcoords="offset points",
            ha="right",
            fontsize="small",
        )
    top = max(reading.resident for reading in readings) / _MB
    memory.set(title="Memory, and the least readings", ylabel="MB, resident", ylim=(0, 1.25 * top))
    places, times = _times(readings)
    time.plot(places, times, color="tab:orange", lw=1)
    time.set(title="Time a step", ylabel="ms of processor time", ylim=(0, 1.25 * max(times)))
    for axes in (memory, time):
        axes.axvspan(0, later[0].work, color="black", alpha=0.06, lw=0)
        axes.set(xlabel=step, xlim=(0, work[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _times(readings: Sequence[Reading], points: int = 60) -> tuple[list[float], list[float]]:
    """Milliseconds a step in up to `points` stretches, at their middles."""
    every = max(1, len(readings) // points)
    kept = list(readings[::every])
    pairs = [(a, b) for a, b in itertools.pairwise(kept) if b.work > a.work]
    return (
        [(a.work + b.work) / 2 for a, b in pairs],
        [1000 * (b.processor - a.processor) / (b.work - a.work) for a, b in pairs],
    )


def _time_a_step(readings: Sequence[Reading]) -> float:
    steps = readings[-1].work - readings[0].work
    return (readings[-1].processor - readings[0].processor) / max(1, steps)


def _median(readings: Sequence[Reading], name: str) -> float:
    return statistics.median(getattr(reading, name) for reading in readings)


def _word(flat: bool) -> str:
    return "is flat" if flat else "IS NOT FLAT"
