"""An hour of training, watched from outside: memory, handles, threads, processes, time a step.

    OMP_NUM_THREADS=1 python -m tests.faults.long_training --minutes 60 --folder /tmp/long

The run is `refine-env train --config demo` with so many optimiser steps that it does not come to
its end; W&B writes offline. When the time is over it is interrupted, as with Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from tqdm import tqdm

from tests.faults.long_flatness import draw, judge
from tests.faults.long_watch import Reading, read_tree, save

ROOT = Path(__file__).parents[2]
_STEPS = 20_000
"""Optimiser steps; an hour has time for some hundreds."""
_END = 60.0
"""Seconds that an interrupted run may take to end."""


def start(folder: Path, overrides: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A training run in `folder / "run"` that says what it has to say in `folder / "log.txt"`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "experiments.cli", "train", "--config", "demo"),
        *(f"grpo.steps={_STEPS}", f"output={folder / 'run'}", *overrides),
    ]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "WANDB_MODE": "offline"},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_interrupts,
        )


def _heed_interrupts() -> None:
    """Behind `nohup ... &` a shell has its commands ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def watch(
    run: subprocess.Popen[bytes],
    folder: Path,
    *,
    seconds: float,
    every: float,
    on_reading: Callable[[Reading], None] = lambda reading: None,
) -> list[Reading]:
    """Readings of the run for a time from its first optimiser step on.

    Raises `RuntimeError` when it ends before that.
    """
    readings: list[Reading] = []
    began: float | None = None
    while began is None or time.monotonic() < began + seconds:
        time.sleep(every)
        steps = steps_done(folder / "run" / "metrics.jsonl")
        if began is None and steps:
            began = time.monotonic()
        reading = read_tree(run.pid, seconds=time.monotonic() - (began or 0.0), work=steps)
        if reading is None or run.poll() is not None:
            raise RuntimeError(f"the run ended, after {steps} steps: see {folder / 'log.txt'}")
        if began is not None:
            readings.append(reading)
            on_reading(reading)
    return readings


def steps_done(metrics: Path) -> int:
    """The step of the last whole line of `metrics.jsonl`; 0 where there is none."""
    if not metrics.is_file():
        return 0
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 20_000))
        lines = file.read().split(b"\n")[:-1]
    return int(json.loads(lines[-1])["step"]) if lines else 0


def end(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Interrupt the run; those of its processes that do not end by themselves (then killed)."""
    tree = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(_END)
    left = psutil.wait_procs(tree, timeout=_END)[1]
    for process in left:
        process.kill()
    if run.poll() is None:
        left.append(psutil.Process(run.pid))
        run.kill()
        run.wait()
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two readings")
    parser.add_argument("--folder", type=Path, required=True, help="of the run and the readings")
    arguments = parser.parse_args()
    folder, seconds = arguments.folder, 60 * arguments.minutes
    run = start(folder)
    bar = tqdm(total=round(seconds), unit="s", mininterval=30)

    def show(reading: Reading) -> None:
        bar.set_postfix(steps=reading.work, MB=reading.resident >> 20, refresh=False)
        bar.update(round(reading.seconds) - bar.n)

    try:
        with bar:
            every = arguments.every
            readings = watch(run, folder, seconds=seconds, every=every, on_reading=show)
    finally:
        left = end(run) if run.poll() is None else []
    flatness = judge(readings)
    told = {"judged": asdict(flatness), "left behind": len(left)}
    save(folder / "long_training.json", readings, told)
    draw(readings, flatness, folder / "long_training.png", "optimiser steps")
    print(f"{flatness.told()}\n{flatness.work} optimiser steps; processes left: {len(left)}")


if __name__ == "__main__":
    main()
