"""Whether a long run stays as it was: the rule, and the picture.

The first quarter is left out: caches fill and a policy learns. Of the other three:

- memory is flat when what it would grow by over the whole run, at the upper end of the slope's
  95 % interval, is less than 2 % of its median. The slope is a least-squares line through the least
  readings of 15 stretches: within a step memory rises and falls, and what leaks stays;
- time is flat when the last tenth takes at most 1.2 times the processor time a step of the first;
- handles, threads and processes have not grown when their median in the last tenth is at most that
  of the first.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.long_watch import Reading

STRETCHES = 15
_STUDENT = 2.160
"""97.5 % of Student's t with 13 degrees of freedom."""
_GROWTH = 0.02
_SLOWER = 1.2
COUNTS = ("handles", "threads", "processes")
_MB = 2**20


@dataclass(frozen=True, slots=True)
class Flatness:
    """What is said of a run."""

    work: int
    """Steps of the whole run."""
    memory: float
    """Median of resident bytes."""
    slope: float
    """Bytes a step, with its 95 % interval."""
    low: float
    high: float
    level: float
    """Bytes of the slope's line at step 0."""
    first_time: float
    """Processor seconds a step in the first tenth, and in the last."""
    last_time: float
    grown: tuple[str, ...]
    """Which of handles, threads and processes there are more of."""

    @property
    def memory_is_flat(self) -> bool:
        return self.high * self.work < _GROWTH * self.memory

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
                f"memory {_word(self.memory_is_flat)}: {self.memory / _MB:.0f} MB, "
                f"{self.slope:.3g} bytes a step (95 %: {self.low:.3g} to {self.high:.3g})",
                f"time a step {_word(self.time_is_flat)}: {time} of processor time",
                f"more than before: {', '.join(self.grown) or 'nothing'}",
            ]
        )


def judge(readings: Sequence[Reading]) -> Flatness:
    """Apply the rule. Raises `ValueError` for fewer than 40 readings: too few to tell."""
    if len(readings) < 40:
        raise ValueError(f"{len(readings)} readings are too few to tell; at least 40 are needed")
    later = readings[len(readings) // 4 :]
    level, slope, margin = memory_line(later)
    tenth = max(2, len(later) // 10)
    first, last = later[:tenth], later[-tenth:]
    return Flatness(
        work=readings[-1].work,
        memory=statistics.median(reading.resident for reading in later),
        slope=slope,
        low=slope - margin,
        high=slope + margin,
        level=level,
        first_time=_time_a_step(first),
        last_time=_time_a_step(last),
        grown=tuple(name for name in COUNTS if _median(last, name) > _median(first, name)),
    )


def memory_line(readings: Sequence[Reading]) -> tuple[float, float, float]:
    """Bytes at step 0, bytes a step, and how far the 95 % interval goes to either side."""
    cuts = [round(place * len(readings) / STRETCHES) for place in range(STRETCHES + 1)]
    stretches = [readings[cuts[place] : cuts[place + 1]] for place in range(STRETCHES)]
    x = [statistics.fmean(reading.work for reading in stretch) for stretch in stretches]
    y = [min(reading.resident for reading in stretch) for stretch in stretches]
    slope, intercept = statistics.linear_regression(x, y)
    middle = statistics.fmean(x)
    spread = sum((value - middle) ** 2 for value in x)
    misses = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return intercept, slope, _STUDENT * math.sqrt(misses / (STRETCHES - 2) / spread)


def draw(readings: Sequence[Reading], flatness: Flatness, path: Path, step: str) -> None:
    """Memory with its line, and time a step, over the steps (PNG); `step` says of what kind."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    memory, time = figure.subplots(1, 2)
    later = readings[len(readings) // 4 :]
    work = [reading.work for reading in readings]
    memory.plot(work, [reading.resident / _MB for reading in readings], color="tab:blue", lw=1)
    ends = [later[0].work, later[-1].work]
    line = [(flatness.level + flatness.slope * place) / _MB for place in ends]
    memory.plot(
        ends, line, color="black", lw=1.5, label=f"least: {flatness.slope:+.2g} bytes a step"
    )
    top = max(reading.resident for reading in readings) / _MB
    memory.set(title="Memory", ylabel="MB, resident", ylim=(0, 1.25 * top))
    memory.legend(loc="lower right", fontsize="small")
    places, times = _times(readings)
    time.plot(places, times, color="tab:orange", lw=1)
    time.set(title="Time a step", ylabel="ms of processor time", ylim=(0, 1.25 * max(times)))
    for axes in (memory, time):
        axes.axvspan(0, later[0].work, color="black", alpha=0.06, lw=0)
        axes.set(xlabel=step, xlim=(0, work[-1]))
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
