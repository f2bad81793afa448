"""A sweep without an account: runs as processes, one after the other or a few side by side."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from agents.tracking import code_version
from experiments.folder_lock import lock_folder
from experiments.inputs import InputError
from experiments.sweeping.command import environment, run_command
from experiments.sweeping.progress import SweepProgress
from experiments.sweeping.proposals import given_up, grid_size, propose
from experiments.sweeping.records import (
    CONSOLE,
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    RunRecord,
    SweepRecord,
    metric_history,
    read_record,
    write_record,
)
from experiments.sweeping.sweep_file import Sweep

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0
"""Between two looks at the metrics of running runs, for `early_terminate`."""
_GRACE_SECONDS = 30.0
"""What a run that is interrupted has to end by itself."""


@dataclass(slots=True)
class _Running:
    """A process of a run; what it has behind it from earlier starts, in seconds."""

    process: subprocess.Popen[bytes]
    started: float
    earlier: float
    given_up: bool = False


class LocalSweep:
    """A sweep in a folder: a folder for every run, `sweep.json` beside them.

    The same sweep in the same folder goes on: what has ended stays, what was cut off is started
    again with the same values (`resume=auto` in its command then goes on from its checkpoint).
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        *,
        runs: int | None = None,
        workers: int = 1,
        seed: int = 0,
        overrides: Sequence[str] = (),
        retry_failed: bool = False,
    ) -> None:
        """`runs` is how many the folder is to hold in the end, those that failed included.

        Raises `InputError` for another sweep's folder, and without `runs` where nothing else ends
        the sweep.
        """
        caps = [cap for cap in (runs, sweep.run_cap) if cap is not None]
        if not caps and sweep.method != "grid":
            raise InputError(f"a {sweep.method} sweep has no end of its own: say how many --runs")
        self.sweep = sweep
        self.folder = folder
        self.cap = min(caps) if caps else None
        self.workers = workers
        self._active: dict[str, _Running] = {}
        self._looked = 0.0
        self._all_tried = False
        new = SweepRecord(
            name=sweep.name,
            settings=sweep.settings,
            overrides=tuple(overrides),
            seed=seed,
            commit=code_version(),
        )
        self.record = self._gone_on(new, read_record(folder))
        again = (RUNNING, FAILED) if retry_failed else (RUNNING,)
        self._again = [run.id for run in self.record.runs if run.state in again]

    def run(self, progress: SweepProgress) -> bool:
        """Run what is left; whether it came to its end, and was not interrupted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(lock_folder(self.folder, "sweep")), _ends_cleanly():
            write_record(self.folder, self.record)
            progress.start(self._total(), self._ended())
            try:
                while self._start_some() or self._active:
                    time.sleep(_POLL_SECONDS)
                    self._take_ended(progress)
                    self._give_up_some()
            except KeyboardInterrupt:
                progress.say("Interrupted: ending what runs ...")
                return False
            finally:
                self._end_all()
        return True

    def histories(self) -> dict[str, list[float]]:
        """The metric over each run, by its id."""
        return {
            run.id: metric_history(self.folder / run.id, self.sweep.metric)
            for run in self.record.runs
        }

    def _gone_on(self, new: SweepRecord, old: SweepRecord | None) -> SweepRecord:
        if old is None:
            return new
        for what in ("settings", "overrides", "seed"):
            asked, there = (_as_json(getattr(record, what)) for record in (new, old))
            if asked != there:
                raise InputError(
                    f"{self.folder} holds a sweep with other {what}: name another folder by "
                    "--output, or give the same command as then"
                )
        if old.commit != new.commit:
            logger.warning(
                "%s was begun at commit %s, this is %s: its runs may not be comparable",
                *(self.folder, old.commit, new.commit),
            )
        return old

    def _total(self) -> int | None:
        """Runs in the end; None where that is not known."""
        counts = [] if self.cap is None else [self.cap]
        if self.sweep.method == "grid":
            counts.append(grid_size(self.sweep))
        return min(counts) if counts else None

    def _ended(self) -> list[tuple[RunRecord, list[float]]]:
        histories = self.histories()
        return [
            (run, histories[run.id])
            for run in self.record.runs
            if run.state != RUNNING and run.id not in self._again
        ]

    def _start_some(self) -> bool:
        """Fill the free places; whether any run was started."""
        started = False
        while len(self._active) < self.workers:
            run = self._next()
            if run is None:
                break
            self._start(run)
            started = True
        return started

    def _next(self) -> RunRecord | None:
        if self._again:
            run_id = self._again.pop(0)
            return next(run for run in self.record.runs if run.id == run_id)
        count = len(self.record.runs)
        if self._all_tried or (self.cap is not None and count >= self.cap):
            return None
        values = propose(self.sweep, self.record.runs, self.histories(), self.record.seed)
        self._all_tried = values is None
        return None if values is None else RunRecord(id=f"{count + 1:03d}", parameters=values)

    def _start(self, run: RunRecord) -> None:
        place = self.folder / run.id
        command = run_command(
            self.sweep.settings.get("command"),
            self.sweep.settings.get("program"),
            run.parameters,
            place,
            self.record.overrides,
        )
        place.mkdir(exist_ok=True)
        lock_folder(
            place, "training, which a killed sweep has left: wait for it, or end it"
        ).close()
        self._tell(replace(run, state=RUNNING, exit_code=None))
        with (place / CONSOLE).open("ab") as console:
            console.write(f"$ {' '.join(command)}\n".encode())
            console.flush()
            process = _started(command, console)
        self._active[run.id] = _Running(process, time.monotonic(), run.seconds)

    def _take_ended(self, progress: SweepProgress) -> None:
        for run_id, running in list(self._active.items()):
            code = running.process.poll()
            if code is None:
                continue
            del self._active[run_id]
            state = STOPPED if running.given_up else FINISHED if code == 0 else FAILED
            run = replace(self._run(run_id), state=state, exit_code=code)
            run = self._tell(replace(run, seconds=_seconds(running)))
            progress.ended(
                run, metric_history(self.folder / run_id, self.sweep.metric), self._why(run)
            )

    def _why(self, run: RunRecord) -> str:
        """The last line that a failed run wrote."""
        if run.state != FAILED:
            return ""
        text = (self.folder / run.id / CONSOLE).read_text(encoding="utf-8", errors="replace")
        return text.strip().rpartition("\n")[2]

    def _give_up_some(self) -> None:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for run_id in given_up(self.sweep, self.record.runs, self.histories()):
            if run_id in self._active and not self._active[run_id].given_up:
                self._active[run_id].given_up = True
                _signal(self._active[run_id].process, signal.SIGTERM)

    def _end_all(self) -> None:
        """End what still runs, after an interruption; such runs stay `running` in the record."""
        for running in self._active.values():
            _signal(running.process, signal.SIGINT)
        for run_id, running in self._active.items():
            try:
                running.process.wait(_GRACE_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                _signal(running.process, getattr(signal, "SIGKILL", signal.SIGTERM))
                running.process.wait()
            self._tell(replace(self._run(run_id), seconds=_seconds(running)))
        self._active.clear()

    def _run(self, run_id: str) -> RunRecord:
        return next(run for run in self.record.runs if run.id == run_id)

    def _tell(self, run: RunRecord) -> RunRecord:
        """Put a run into the record, over what was there of it."""
        runs = {known.id: known for known in self.record.runs} | {run.id: run}
        self.record = replace(self.record, runs=tuple(runs.values()))
        write_record(self.folder, self.record)
        return run


def _started(command: Sequence[str], console: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process of a run. Raises `InputError` where its program cannot be started."""
    try:
        return subprocess.Popen(  # noqa: S603 (the sweep file is the user's own program)
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which ends them
        )
    except OSError as error:
        raise InputError(f"{command[0]} cannot be started: {error}") from error


def _seconds(running: _Running) -> float:
    return round(running.earlier + time.monotonic() - running.started, 1)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a run and what it has started."""
    with suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.terminate()


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


@contextmanager
def _ends_cleanly() -> Iterator[None]:
    """A SIGTERM within ends the sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
