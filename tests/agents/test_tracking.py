"""Where the figures of a run go: its folder, W&B, and what happens when either is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents import tracking
from agents.rollout import Rollout
from agents.tracking import (
    CannotWrite,
    RunFacts,
    Tracker,
    code_version,
    read_about,
    read_metrics,
    start_tracker,
)
from refine_env.config import Components
from refine_env.serialization import load_episodes
from tests.agents.wandb_server import WandbServer, offline_run_says

FACTS = RunFacts(name="a", dataset="nq", protocol="autorefine", reward="f1", commit="0123abcd")


def rollouts_of(components: Components) -> list[Rollout]:
    starts = [components.start(question) for question in components.questions]
    episodes = components.step(starts, ["<answer> Dray </answer>"] * len(starts))
    return [Rollout(episode, 0, [5], [6], [0.0], [1]) for episode in episodes]


# The folder


def test_each_line_has_its_step_first(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.metrics(1, {"reward/total": 0.5})
    tracker.metrics(2, {"reward/total": 0.75})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "reward/total": 0.5}\n{"step": 2, "reward/total": 0.75}\n'
    )
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    Tracker(tmp_path).metrics(1, {"reward/total": 0.5})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    for cut in ('{"step": 2, "rew', '{"step": 2, "reward/total": 0.1}'):
        path.write_text(whole + cut)
        assert [row["step"] for row in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize(
    "torn", [b'{"step": 2, "rew', b"\0\0\0", b"\xff", b"0.5}", b"5", b"", b'{"reward/total": 1}']
)
def test_a_damaged_line_in_the_middle_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, torn: bytes
) -> None:
    """It was a traceback, and the run could not be resumed."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + torn + b'\n{"step": 3}\n')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 3]
    assert caplog.messages == [f"{path}, line 2 is damaged and left out"]


def test_the_folder_says_what_the_run_is_and_how_it_ended(tmp_path: Path) -> None:
    with Tracker(tmp_path, FACTS) as tracker:
        assert read_about(tmp_path)["status"] == "running"
        tracker.summary({"steps": 3})
        tracker.summary({"best/score": 0.5})
    assert read_about(tmp_path) == {
        "name": "a",
        "dataset": "nq",
        "protocol": "autorefine",
        "reward": "f1",
        "commit": "0123abcd",
        "status": "finished",
        "summary": {"steps": 3, "best/score": 0.5},
    }
    with pytest.raises(KeyboardInterrupt), Tracker(tmp_path, FACTS):
        raise KeyboardInterrupt
    assert read_about(tmp_path)["status"] == "failed"
    assert read_about(tmp_path / "nowhere") == {}


def test_tags_say_all_but_the_name() -> None:
    assert FACTS.tags == ["dataset:nq", "protocol:autorefine", "reward:f1", "commit:0123abcd"]


def test_transcripts_of_a_step_are_written_over(tmp_path: Path, components: Components) -> None:
    tracker, rollouts = Tracker(tmp_path), rollouts_of(components)
    tracker.transcripts(5, rollouts)
    tracker.transcripts(5, rollouts[:2])
    (path,) = (tmp_path / "transcripts").iterdir()
    assert path.name == "step-00005.jsonl"
    assert list(load_episodes(path)) == [rollout.episode for rollout in rollouts[:2]]


def test_the_version_of_the_code_is_its_commit() -> None:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("-C", str(Path(__file__).parent), "rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the tests do not run in a clone")
    version = code_version()
    assert version is not None
    assert head.startswith(version.removesuffix("-dirty"))
    assert len(version) >= 12


def test_changed_code_shows_in_the_version_and_changed_results_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, result = tmp_path / "agents/tracking.py", tmp_path / "experiments/results/report.md"
    for path in (module, result):
        path.parent.mkdir(parents=True)
        path.write_text("as committed\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(tracking, "__file__", str(module))
    clean = code_version()
    result.write_text("written again\n")
    assert code_version() == clean is not None
    module.write_text("changed\n")
    assert code_version() == f"{clean}-dirty"


def test_without_git_there_is_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version() is None


def test_another_repository_around_the_code_is_not_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "empty"))
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "empty")], check=True)
    assert code_version() is None


# A full disk


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    """A folder with a file of metrics that no byte can be added to."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    return tmp_path


def test_a_full_disk_is_warned_of_once_and_nothing_is_lost_when_there_is_room_again(
    full_disk: Path, caplog: pytest.LogCaptureFixture, components: Components
) -> None:
    tracker = Tracker(full_disk)
    tracker.metrics(1, {"reward/total": 0.1})
    tracker.metrics(2, {"reward/total": 0.2})
    tracker.transcripts(2, rollouts_of(components))
    (warning,) = caplog.messages
    assert f"{full_disk / 'metrics.jsonl'} cannot be written (No space left on device)" in warning
    assert "make room" in warning
    (full_disk / "metrics.jsonl").unlink()
    tracker.metrics(3, {"reward/total": 0.3})
    assert "nothing is lost" in caplog.messages[-1]
    assert [row["reward/total"] for row in read_metrics(full_disk)] == [0.1, 0.2, 0.3]
    assert (full_disk / "transcripts" / "step-00002.jsonl").is_file()
    tracker.finish()


def test_a_disk_that_is_full_to_the_end_is_an_error(full_disk: Path) -> None:
    tracker = Tracker(full_disk)
    tracker.metrics(1, {"reward/total": 0.1})
    tracker.metrics(2, {"reward/total": 0.1})
    with pytest.raises(CannotWrite, match=r"2 lines and files .* lost.*metrics\.jsonl"):
        tracker.finish()
    assert read_about(full_disk)["status"] == "finished"  # other files are none the worse


def test_the_error_that_ended_a_run_is_not_hidden_by_a_full_disk(full_disk: Path) -> None:
    with pytest.raises(ZeroDivisionError), Tracker(full_disk) as tracker:
        tracker.metrics(1, {"reward/total": 0.1})
        raise ZeroDivisionError


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
def test_a_line_that_only_half_fits_leaves_no_half(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from agents.tracking import Tracker
tracker = Tracker(Path(sys.argv[1]))
tracker.metrics(1, {"reward/total": 0.1})
size = (Path(sys.argv[1]) / "metrics.jsonl").stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, hard))
tracker.metrics(2, {"reward/total": 0.2})
print((Path(sys.argv[1]) / "metrics.jsonl").stat().st_size == size)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
tracker.metrics(3, {"reward/total": 0.3})
"""
    ended = python(script, tmp_path)
    assert ended.stdout == "True\n", ended.stderr
    assert "cannot be written" in ended.stderr
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]


# W&B, in processes of their own as it keeps what it was first told; on the loopback alone


def python(script: str, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=kept | {"PYTHONPATH": str(root), "WANDB_X_DISABLE_STATS": "true", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


RUN = """
import sys, urllib.request
from pathlib import Path
from agents.tracking import RunFacts, start_tracker

facts = RunFacts(name="a", dataset="nq", protocol="autorefine", reward="f1", commit=None)
options = {"wandb": "online", "project": "p", "config": {"seed": 3}}
with start_tracker(Path(sys.argv[1]), facts, **options) as tracker:
    if len(sys.argv) > 2:
        urllib.request.urlopen(sys.argv[2], data=b"")
    for step in range(1, 4):
        tracker.metrics(step, {"reward/total": step / 4})
    tracker.summary({"steps": 3})
print("the end")
"""


@pytest.fixture
def login(tmp_path: Path) -> dict[str, str]:
    """An environment with an API key, and nobody's settings in it."""
    pytest.importorskip("wandb")
    return {"WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path), "WANDB_FINISH_TIMEOUT": "60"}


def test_wandb_gets_name_tags_settings_lines_and_summary(
    tmp_path: Path, login: dict[str, str]
) -> None:
    with WandbServer() as server:
        ended = python(RUN, tmp_path / "run", WANDB_BASE_URL=server.url, **login)
    assert ended.stdout == "the end\n", ended.stderr
    told = server.runs[0]
    assert told["displayName"] == "a"
    assert told["tags"] == ["dataset:nq", "protocol:autorefine", "reward:f1"]
    assert json.loads(told["config"])["seed"]["value"] == 3
    lines = [(line["_step"], line["reward/total"]) for line in server.history]
    assert lines == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert server.exit_codes == [0]
    assert read_about(tmp_path / "run")["wandb"]["id"] == told["name"]


def test_a_service_that_is_lost_costs_a_warning_and_no_waiting(
    tmp_path: Path, login: dict[str, str]
) -> None:
    login["WANDB_FINISH_TIMEOUT"] = "1"  # it would wait for ever
    with WandbServer() as server:
        ended = python(
            RUN, tmp_path / "run", server.url + server.QUIT, WANDB_BASE_URL=server.url, **login
        )
    assert ended.stdout == "the end\n", ended.stderr
    assert ended.returncode == 0
    assert ended.stderr.count("W&B did not take") == 1
    assert "`wandb sync` uploads that" in ended.stderr
    assert [row["reward/total"] for row in read_metrics(tmp_path / "run")] == [0.25, 0.5, 0.75]
    assert not server.exit_codes


def test_a_service_that_does_not_answer_gives_an_offline_run(
    tmp_path: Path, login: dict[str, str]
) -> None:
    with WandbServer() as server:
        pass  # its port is closed now
    ended = python(
        RUN, tmp_path / "run", WANDB_BASE_URL=server.url, WANDB_INIT_TIMEOUT="1", **login
    )
    assert ended.stdout == "the end\n", ended.stderr
    assert ended.stderr.count("W&B cannot be started online") == 1
    assert offline_run_says(tmp_path / "run", "reward/total")


def test_online_is_an_error_for_who_is_not_logged_in(tmp_path: Path, login: dict[str, str]) -> None:
    del login["WANDB_API_KEY"]
    ended = python(RUN, tmp_path / "run", WANDB_BASE_URL="http://127.0.0.1:9", **login)
    assert ended.returncode == 1
    assert "ValueError: W&B: No API key configured" in ended.stderr
    assert "take offline instead of online" in ended.stderr


KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from agents.tracking import RunFacts, start_tracker

facts = RunFacts(name="a", dataset="nq", protocol="autorefine", reward="f1", commit=None)
options = {"wandb": "offline", "project": "p", "config": {}}
with start_tracker(Path(sys.argv[1]), facts, **options) as tracker:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for child in children:
        if "wandb" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
    for step in range(1, 40):
        tracker.metrics(step, {"reward/total": step / 4})
print("the end")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process in /proc")
def test_a_process_of_wandb_that_dies_ends_nothing(tmp_path: Path, login: dict[str, str]) -> None:
    ended = python(KILLED, tmp_path / "run", **login)
    assert ended.stdout == "the end\n", ended.stderr
    assert ended.returncode == 0
    assert ended.stderr.count("W&B did not take the figures") == 1
    assert len(read_metrics(tmp_path / "run")) == 39


def test_a_run_that_goes_on_is_the_same_run_in_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def start(*_: Any, run_id: str | None, **__: Any) -> None:
        asked.append(run_id)

    monkeypatch.setattr("agents.tracking.start_wandb", start)
    about = {"wandb": {"id": "abc", "url": None}}
    for resume, expected in ((True, "abc"), (False, None)):
        (tmp_path / "run.json").write_text(json.dumps(about))
        start_tracker(tmp_path, FACTS, wandb="auto", project="p", config={}, resume=resume)
        assert asked.pop() == expected
    assert "wandb" not in read_about(tmp_path)
