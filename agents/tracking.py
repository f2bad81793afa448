"""Where the figures of a run go: files in its folder, and the same to W&B where there is one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.wandb_runs import WandbChoice, WandbRun, start_wandb
from refine_env.files import append_whole, write_whole
from refine_env.render import render_html
from refine_env.rewards import RewardFn
from refine_env.serialization import save_episodes

if TYPE_CHECKING:
    from agents.rollout import Rollout

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
_ABOUT = "run.json"
_RESULTS = "experiments/results"
"""Where the repository keeps what runs have found."""


class CannotWrite(OSError):
    """Something that the run had to say was never written; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run is called and what it is a run of."""

    name: str
    dataset: str
    protocol: str
    reward: str
    commit: str | None
    """Of this code, with `-dirty` where it has changes; None where no git repository holds it."""

    @property
    def tags(self) -> list[str]:
        """`key:value` of everything but the name."""
        return [f"{k}:{v}" for k, v in asdict(self).items() if k != "name" and v is not None]


class Tracker:
    """Takes what a run measures. Belongs to its main process; a context manager that ends the run.

    In the folder: `metrics.jsonl` with a line for each call of `metrics`, `transcripts/`, and
    `run.json` with the run's facts, its status (running, finished, failed) and its summary. What
    cannot be written, on a full disk, is warned of, kept in memory and written when there is room
    again. What W&B does not take is warned of, and the run goes on without W&B.
    """

    def __init__(
        self, folder: Path, facts: RunFacts | None = None, wandb_run: WandbRun | None = None
    ) -> None:
        self.folder = folder
        self._wandb = wandb_run
        self._waiting: list[tuple[Path, Callable[[], object]]] = []
        self._about: dict[str, Any] = {**(asdict(facts) if facts else {}), "status": "running"}
        if wandb_run is not None:
            self._about["wandb"] = {"id": wandb_run.id, "url": wandb_run.url}
        self._about["summary"] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._write_about()

    def metrics(self, step: int, line: Mapping[str, float]) -> None:
        """Append a line of figures; `line` brings no `step` of its own."""
        path = self.folder / METRICS
        text = json.dumps({"step": step, **line}) + "\n"
        self._write(path, partial(_append, path, text.encode()))
        if self._wandb is not None:
            self._wandb.log(line, step)

    def transcripts(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Write `transcripts/step-*.jsonl`, over what a run before wrote for the step."""
        path = self.folder / "transcripts" / f"step-{step:05d}.jsonl"
        episodes = [rollout.episode for rollout in rollouts]
        self._write(path, partial(save_episodes, path, episodes))

    def show(self, step: int, rollouts: Sequence[Rollout], reward: RewardFn) -> None:
        """Show rollouts as a page in W&B, each with its reward."""
        if self._wandb is not None:
            pairs = [(f"rollout {rollout.number}", rollout.episode) for rollout in rollouts]
            page = render_html(pairs, title=f"Step {step}", reward_fn=reward)
            self._wandb.page("transcripts", page, step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set figures of the run as a whole, beside those set before."""
        self._about["summary"].update(values)
        self._write_about()
        if self._wandb is not None:
            self._wandb.summarize(values)

    def finish(self, failed: bool = False) -> None:
        """End the run. Raises `CannotWrite` where something could not be written to the end."""
        self._about["status"] = "failed" if failed else "finished"
        self._write_about()
        if self._wandb is not None:
            self._wandb.finish(failed)
        if self._waiting and not failed:  # an error that ends the run is not hidden by this one
            raise CannotWrite(
                f"{len(self._waiting)} lines and files of the run could not be written and are "
                f"lost, the first of them to {self._waiting[0][0]}: there was no room to the end"
            )

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.finish(failed=kind is not None)

    def _write_about(self) -> None:
        path = self.folder / _ABOUT
        text = json.dumps(self._about, indent=2, ensure_ascii=False) + "\n"
        self._write(path, partial(write_whole, path, text))

    def _write(self, path: Path, write: Callable[[], object]) -> None:
        """Do a write, and those that wait for room; of one file in their order."""
        tried, self._waiting = [*self._waiting, (path, write)], []
        full: dict[Path, str] = {}
        for place, action in tried:
            try:
                if place not in full:
                    action()
                    continue
            except OSError as error:
                full[place] = error.strerror or str(error)
            self._waiting.append((place, action))
        if full and len(tried) == 1:
            logger.warning(
                "%s cannot be written (%s). Training goes on; make room: until then what the run "
                "has to say is kept in memory, and lost if the run is killed.",
                *(path, full[path]),
            )
        elif len(tried) > 1 and not full:
            logger.warning("%s: there is room again, and nothing is lost", self.folder)


def start_tracker(
    folder: Path,
    facts: RunFacts,
    *,
    wandb: WandbChoice,
    project: str,
    config: Mapping[str, Any],
    resume: bool = False,
) -> Tracker:
    """A tracker of a run in `folder`; `resume` goes on with the run in W&B that was there.

    Raises as `start_wandb` does.
    """
    run = start_wandb(
        wandb,
        folder,
        project,
        {**config, "commit": facts.commit},
        name=facts.name,
        tags=facts.tags,
        run_id=read_about(folder).get("wandb", {}).get("id") if resume else None,
    )
    return Tracker(folder, facts, run)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`; a last line that was cut short is left out, and with a warning
    any other that is damaged.
    """
    path, rows = folder / METRICS, []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
        else:
            logger.warning("%s, line %d is damaged and left out", path, number)
    return rows


def read_about(folder: Path) -> dict[str, Any]:
    """What `run.json` says; empty where there is none."""
    path = folder / _ABOUT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def code_version() -> str | None:
    """The commit of this code, `-dirty` with changes of it; None without git or outside a
    repository. Results that are written again are no change of the code.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # not of a repository around it
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("diff", "--name-only", "HEAD", "--", ":/", f":(top,exclude){_RESULTS}")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(*words: str) -> str:
    """What git says of the repository of this file."""
    here = Path(__file__).resolve().parent
    return subprocess.run(  # noqa: S603 (nothing of it comes from outside)
        ["git", *words],  # noqa: S607 (as it is found by its users)
        cwd=here,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout.strip()


def _append(path: Path, line: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        append_whole(file, line)
        os.fsync(file.fileno())
