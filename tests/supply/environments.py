"""Virtual environments of their own, and a copy of the checkout to install into them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from experiments.inputs import InputError
from tests.supply.lowest import PIP
from tests.supply.requirements import ROOT


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment. It has no pip: the one that runs this installs into it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def program(self, name: str) -> Path:
        """A command that was installed into it."""
        return self.folder / "bin" / name

    def install(self, wanted: Sequence[str], pinned: Mapping[str, Version], log: Path) -> None:
        """Install, with the versions of `pinned` where they are needed.

        Raises `InputError` with the end of pip's log when that fails.
        """
        constraints = self.folder / "constraints.txt"
        lines = [f"{name}=={version}\n" for name, version in pinned.items()]
        constraints.write_text("".join(lines), encoding="utf-8")
        to = ["--python", str(self.python), "install", "--progress-bar", "off"]
        code = run([*PIP, *to, "-c", str(constraints), *wanted], self.folder, log)
        if code:
            end = log.read_text(encoding="utf-8").strip()[-1500:]
            raise InputError(f"pip could not install {' '.join(wanted)}; {log} ends with\n{end}")

    def versions(self) -> dict[str, str]:
        """What is installed."""
        command = [*PIP, "--python", str(self.python), "list", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return {row["name"]: row["version"] for row in json.loads(done.stdout)}

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def create(folder: Path) -> Environment:
    """An empty virtual environment of the Python that runs this."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    return Environment(folder)


def copy_checkout(folder: Path) -> Path:
    """The files of the checkout that git does not ignore, as they are now.

    Building and installing leave files beside the sources; the checkout stays as it is.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(command: Sequence[str], folder: Path, log: Path) -> int:
    """Run a command in a folder with its output in a file; the exit code.

    Nothing of the surrounding Python reaches it: no PYTHONPATH, no active environment.
    """
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "REFINE_ENV_DATA")
    surroundings = {key: value for key, value in os.environ.items() if key not in foreign}
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        return subprocess.run(
            command, cwd=folder, env=surroundings, stdout=output, stderr=subprocess.STDOUT
        ).returncode
