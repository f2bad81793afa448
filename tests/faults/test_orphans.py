"""Workers of a killed process do not work on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

STARTER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from experiments.fleet import Fleet

@dataclass(frozen=True)
class Endless:
    folder: str
    keys = (0,)
    def only(self, keys):
        return self

def open_runner():
    return run

def run(chunk, report):
    import os
    (Path(chunk.folder) / "part").write_text(str(os.getpid()))
    (Path(chunk.folder) / "part").rename(Path(chunk.folder) / "pid")
    time.sleep(600)

if __name__ == "__main__":
    list(Fleet(open_runner, 1).run([Endless(sys.argv[1])]))
"""


def test_a_worker_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    starter = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=_env())
    try:
        pid = int(_awaited(tmp_path / "pid"))
        worker = psutil.Process(pid)
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        worker.wait(timeout=60)  # of its ten minutes; it ends at once
    finally:
        starter.kill()
    assert not worker.is_running()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _awaited(path: Path) -> str:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert time.monotonic() < deadline, "the worker did not begin"
        time.sleep(0.05)
    return path.read_text()
