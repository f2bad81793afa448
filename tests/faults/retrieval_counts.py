"""How calls ended, counted by what hit them, and the table of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.retrieval_answers import HANDLERS
from tests.faults.retrieval_proxy import Faults

NO_FAULT = "none of its own"


@dataclass(frozen=True, slots=True)
class Call:
    """One search, and what is to happen to it."""

    number: int
    queries: tuple[str, ...]
    k: int
    deadline: float
    replicas: bool
    fault: str | None
    times: int
    """How many attempts the fault hits."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    call: Call
    result: str
    """`right`, `wrong`, `error`, or the name of any other exception."""
    began: float
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    kind: str
    server: int
    began: float
    ended: float


class Stalls:
    """When this process did not get to run: what a thread that only sleeps overslept."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        nap = 0.01
        while not self._stop.is_set():
            began = time.monotonic()
            time.sleep(nap)
            ended = time.monotonic()
            if ended - began > 3 * nap:
                self._found.append((began + nap, ended))

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def within(self, began: float, ended: float) -> float:
        """Seconds of them between two times of `time.monotonic`."""
        return sum(max(0.0, min(ended, end) - max(began, start)) for start, end in self._found)

    @property
    def longest(self) -> float:
        return max((end - start for start, end in self._found), default=0.0)


@dataclass(slots=True)
class Row:
    """A line of the table."""

    hit: int = 0
    right: int = 0
    errors: int = 0
    wrong: int = 0
    """Another answer, or another exception."""
    late: int = 0
    longest: float = 0.0
    """Seconds that a call took, most of its deadline."""
    of_deadline: float = 0.0


@dataclass(slots=True)
class Report:
    """What was done and what came of it."""

    calls: int = 0
    ends: int = 0
    seconds: float = 0.0
    kills: int = 0
    slack: float = 0.0
    """Seconds beyond its deadline, stalls of this process apart, with which a call is not late."""
    longest_stall: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    """Every call that ended neither rightly nor in a `RetrieverError`, and every other surprise."""
    sockets_left: int = 0
    """Of the clients, after they were closed."""


def count_up(
    ended: Sequence[Ended],
    faults: Faults,
    outages: Sequence[Outage],
    stalls: Stalls,
    slack: float,
) -> Report:
    """Each call counts once: under the fault that hit it, else an outage during it, else none."""
    report = Report(calls=len(ended), slack=slack, longest_stall=stalls.longest)
    report.kills = sum(outage.kind.startswith("kill") for outage in outages)
    kinds = [*dict.fromkeys(outage.kind for outage in outages), *HANDLERS, NO_FAULT]
    report.rows = {kind: Row() for kind in kinds}
    for end in ended:
        row = report.rows[_kind(end, faults, outages)]
        row.hit += 1
        row.right += end.result == "right"
        row.errors += end.result == "error"
        row.wrong += end.result not in ("right", "error")
        stalled = stalls.within(end.began, end.began + end.seconds)
        late = end.seconds - stalled > end.call.deadline + slack
        row.late += late
        if end.seconds / end.call.deadline > row.of_deadline:
            row.longest, row.of_deadline = end.seconds, end.seconds / end.call.deadline
        if late or end.result not in ("right", "error"):
            what = f"{end.result} after {end.seconds:.2f} of {end.call.deadline} s"
            report.bad.append(f"call {end.call.number} ({end.call.fault}): {what}: {end.detail}")
    report.ends = sum(row.right + row.errors for row in report.rows.values())
    return report


def _kind(end: Ended, faults: Faults, outages: Sequence[Outage]) -> str:
    if end.call.fault is not None and end.call.number in faults.hit:
        return end.call.fault
    for outage in outages:
        asked = end.call.replicas or outage.server == 0
        overlaps = outage.began < end.began + end.seconds and end.began < outage.ended
        if asked and overlaps:
            return outage.kind
    return NO_FAULT


def table(report: Report) -> str:
    """The rows as Markdown."""
    lines = [
        "| fault | requests hit | right answers | `RetrieverError` | wrong, or another exception | "
        "over the deadline | longest against its deadline |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    total = Row()
    for kind, row in report.rows.items():
        lines.append(_line(kind, row))
        for name in ("hit", "right", "errors", "wrong", "late"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        if row.of_deadline > total.of_deadline:
            total.longest, total.of_deadline = row.longest, row.of_deadline
    return "\n".join([*lines, _line("all", total)])


def _line(kind: str, row: Row) -> str:
    deadline = row.longest / row.of_deadline if row.of_deadline else 0.0
    counts = (row.hit, row.right, row.errors, row.wrong, row.late)
    cells = [kind, *(f"{count:,}" for count in counts), f"{row.longest:.2f} of {deadline:g} s"]
    return f"| {' | '.join(cells)} |"
