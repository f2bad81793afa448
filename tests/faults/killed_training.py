"""Kill a training run again and again, and see whether it ends like one that was left alone.

    OMP_NUM_THREADS=1 python -m tests.faults.killed_training random --folder /tmp/killed

Each attempt is a process forked off this one, which has loaded torch and TRL once for all of them.
An attempt dies in one of three ways: by SIGKILL after some time; by SIGKILL right before a change
of a file or folder of the run, which an audit hook sees coming; or within a write, by a limit on
the size of files. The next one goes on with `resume=auto`. Weights, metrics (clocks apart),
transcripts and the state in the last checkpoint must in the end be those of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from agents.models import load_policy
from experiments import train as training
from experiments.progress import quiet_libraries
from experiments.train_config import TrainConfig, load_config
from tests.faults.equal_runs import compare
from tests.faults.interrupted_process import check_forkable, watch_changes

SETTINGS = [
    "env_options.max_turns=3",
    "held_out_questions=4",
    "held_out_every=2",
    "wandb=disabled",
    "resume=auto",
    "grpo.steps=4",
    "grpo.save_steps=2",
    "grpo.keep_checkpoints=1",
    "grpo.questions_per_step=2",
    "grpo.rollouts_per_question=4",
    "grpo.micro_batch=4",
    "grpo.turn_tokens=24",
    "grpo.completion_tokens=160",
    "grpo.learning_rate=1e-3",
    "grpo.top_p=1.0",
]


@dataclass(frozen=True, slots=True)
class Kill:
    """When an attempt dies; as it stands, not at all."""

    after: float | None = None
    """Seconds after its start."""
    before: str | None = None
    """What a change begins with, such as `os.rename policy `; a blank ends its path."""
    number: int = 1
    """Which of the changes that begin so, from 1."""
    bytes: int | None = None
    """How large a file can become: the write that goes beyond it is the last."""

    @property
    def kind(self) -> str:
        if self.after is not None:
            return "after a time"
        return "before a change of a file" if self.before is not None else "within a write"


CHOSEN = (
    Kill(bytes=300_000),  # within the first weights
    Kill(before="open checkpoints/.saving/checkpoint-2/optimizer.pt"),  # to force it to the disk
    Kill(before="os.rename checkpoints/.saving/checkpoint-2 "),
    Kill(before="open metrics.jsonl", number=2),  # of step 4
    Kill(before="os.remove checkpoints/.checkpoint-2.old"),  # the oldest goes
    Kill(before="os.rename .policy.part"),
)
"""Points of one run, in the order in which it comes to them."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended."""

    code: int
    """Exit code; below 0 the number of the signal that it died of."""
    seconds: float
    changes: tuple[str, ...]
    """The changes of files and folders that it made or was about to make."""


@dataclass(slots=True)
class Report:
    """What was done and what came of it."""

    runs: int = 0
    planned: int = 0
    """Kills; a run that comes to its end before one of them is not killed."""
    kills: Counter[str] = field(default_factory=Counter)
    last_changes: Counter[str] = field(default_factory=Counter)
    """What attempts had begun to do, or were about to do, when they died."""
    differences: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "planned": self.planned,
            "kills": dict(self.kills),
            "last changes": dict(self.last_changes.most_common()),
            "differences": self.differences,
        }


def attempt(folder: Path, kill: Kill) -> Attempt:
    """Train in a forked process, in `folder`. Raises `RuntimeError` when it dies of something else
    than `kill`.
    """
    config = load_config(None, [f"output={folder}", *SETTINGS])
    log, trace = folder.with_suffix(".log"), folder.with_suffix(".changes")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(config, kill, log, trace)
    if kill.after is not None and _still_runs(child, kill.after):
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
        raise RuntimeError(f"{kill} ended with {code}:\n{log.read_text(encoding='utf-8')}")
    changes = tuple(trace.read_text(encoding="utf-8").splitlines())
    return Attempt(code, time.monotonic() - started, changes)


def _still_runs(child: int, seconds: float) -> bool:
    """Whether the process runs for so long; one that ends sooner stays to be waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.002)
    return True


def _run(config: TrainConfig, kill: Kill, log: Path, trace: Path) -> None:
    """The forked process: train, and leave without what the parent would do at its end."""
    code = 1
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(said, stream)
        _watch(config.output, kill, os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        if kill.bytes is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill.bytes, kill.bytes))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        training.train(config, say=print)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(folder: Path, kill: Kill, trace: int) -> None:
    """Note every change that is about to be made in the folder, and die before the one."""
    count = 0

    def about_to(change: str) -> None:
        nonlocal count
        change += " "  # so that a kill can name a whole path
        os.write(trace, f"{change}\n".encode())
        count += kill.before is not None and change.startswith(kill.before)
        if kill.before is not None and count == kill.number:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_changes(folder, about_to)


def kill_and_finish(straight: Path, folder: Path, kills: Sequence[Kill], report: Report) -> None:
    """Train in `folder` with an attempt for each kill, then to the end, and compare."""
    report.runs += 1
    report.planned += len(kills)
    for kill in kills:
        done = attempt(folder, kill)
        if done.code < 0:
            report.kills[kill.kind] += 1
            last = done.changes[-1] if done.changes else "nothing"
            report.last_changes[_without_numbers(last)] += 1
            print(f"{folder.name}: killed {kill.kind} after {done.seconds:.1f} s, at {last}")
        else:
            print(f"{folder.name}: at its end before it was killed")
            break
    attempt(folder, Kill())
    found = compare(straight, folder)
    report.differences += [f"{folder.name}: {line}" for line in found]
    print(f"{folder.name}: {found or 'equal to the uninterrupted run'}")


def _without_numbers(change: str) -> str:
    """A change as it is named at another step and in another process."""
    return "".join("#" if letter.isdigit() else letter for letter in change)


def draw(dice: random.Random, straight: Attempt, sizes: list[int]) -> Kill:
    """A random kill of a run that takes as long as `straight` and writes files of these sizes."""
    kind = dice.choice(("time", "change", "bytes"))
    if kind == "time":
        return Kill(after=dice.uniform(0, straight.seconds))
    if kind == "change":
        return Kill(before="", number=dice.randint(1, len(straight.changes)))
    return Kill(bytes=int(dice.choice(sizes) * dice.uniform(0.01, 1)))


def prepare() -> list[Any]:
    """Do once what every attempt would do for itself. What it returns is to be kept: attempts share
    the world that is in use. Raises `SystemExit` when this process has threads.
    """
    torch.set_num_threads(1)
    quiet_libraries()
    config = load_config(None, SETTINGS)
    kept = [config.components("train"), config.components("dev"), load_policy(config.policy_path)]
    gc.collect()
    gc.freeze()  # an attempt need not look through what was there before it
    check_forkable()
    return kept


def random_runs(straight: Attempt, sizes: list[int], seed: int) -> Iterator[list[Kill]]:
    """For ever: up to four kills of a run."""
    dice = random.Random(seed)
    while True:
        yield [draw(dice, straight, sizes) for _ in range(dice.randint(1, 4))]


def each_change(straight: Attempt) -> Iterator[list[Kill]]:
    """A run for each change of the uninterrupted run from its first checkpoint on."""
    first = straight.changes.index("os.mkdir checkpoints/.saving ")
    for number in range(first + 1, len(straight.changes) + 1):
        yield [Kill(before="", number=number)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mode", choices=("chosen", "random", "each"), nargs="+")
    parser.add_argument("--folder", type=Path, required=True, help="a new one")
    parser.add_argument("--runs", type=int, default=20, help="of the mode `random`")
    parser.add_argument("--seed", type=int, default=0, help="of the mode `random`")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    straight_folder = arguments.folder / "straight"
    kept = prepare()
    straight = attempt(straight_folder, Kill())
    print(f"uninterrupted: {straight.seconds:.1f} s, {len(straight.changes)} changes of files")
    sizes = {path.stat().st_size for path in straight_folder.rglob("*") if path.is_file()}
    weights_and_optimizer = sorted(sizes)[-2:]
    random_kills = random_runs(straight, weights_and_optimizer, arguments.seed)
    runs: dict[str, Iterable[Sequence[Kill]]] = {
        "chosen": [CHOSEN],
        "random": (next(random_kills) for _ in range(arguments.runs)),
        "each": each_change(straight),
    }
    reports: dict[str, Any] = {}
    for mode in arguments.mode:
        report = Report()
        for number, kills in enumerate(runs[mode]):
            folder = arguments.folder / f"{mode}-{number}"
            kill_and_finish(straight_folder, folder, kills, report)
        reports[mode] = report.plain()
    del kept
    text = json.dumps(reports, indent=1)
    (arguments.folder / "report.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    sys.exit(any(report["differences"] for report in reports.values()))


if __name__ == "__main__":
    main()
