"""Wheel and source distribution: what is in them, and that they run far from the sources."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.inputs import InputError
from tests.supply.environments import Environment, copy_checkout, create, run
from tests.supply.requirements import pins

PACKAGES = ("agents", "experiments", "refine_env")
LEFT_OUT = ("experiments/results/",)
"""Records of runs: in the repository, not in what is installed."""
BESIDE_PACKAGES = {
    "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "MANIFEST.in"
}  # fmt: skip
"""What else a source distribution may hold, next to the metadata that setuptools adds."""

PLAIN = (
    ("refine-env", "--help"),
    ("refine-env", "list"),
    ("refine-env", "evaluate", "--agent", "oracle", "--questions", "5", "--output", "runs/oracle"),
    ("refine-env", "view", "runs/oracle"),
    ("refine-env", "train", "--help"),
)
"""Commands for which the core is enough. `view` reads the packaged page."""
REFUSED = (
    ("refine-env", "train", "--config", "demo", "--dry-run"),
    ("refine-env", "reproduce", "main", "--dry-run"),
    ("refine-env", "sweep", "learning-rate-kl"),
    ("refine-env", "serve", "--corpus", "corpus.jsonl"),
)
"""Commands that must name an extra where the core stands alone."""
TRAINING = (
    ("refine-env", "train", "--config", "autorefine-3b", "--dry-run"),
    ("refine-env", "train", "--config", "demo", "--dry-run"),
    (
        "refine-env", "train", "--config", "demo", "output=runs/trained", "wandb=disabled",
        "held_out_questions=4", "grpo.steps=1", "grpo.questions_per_step=2",
        "grpo.rollouts_per_question=2", "grpo.micro_batch=4",
    ),
    ("refine-env", "reproduce", "main", "--seeds", "1", "--dry-run"),
    ("refine-env", "sweep", "learning-rate-kl"),
    ("refine-env", "report", "runs/trained", "--output", "runs/report"),
)  # fmt: skip
"""Commands that need torch and TRL. They read packaged settings, tables, sweeps and the policy."""
TRAINING_EXTRAS = ("train", "sweeps")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a wheel or source distribution, compared with the checkout's."""

    lacking: list[str]
    foreign: list[str]
    count: int


def expected(names: Iterable[str]) -> set[str]:
    """Of the checkout's files those that an installation must have: code and package data."""
    inside = tuple(f"{package}/" for package in PACKAGES)
    return {name for name in names if name.startswith(inside) and not name.startswith(LEFT_OUT)}


def compare(found: set[str], wanted: set[str]) -> Files:
    """What is lacking and what should not be there."""
    return Files(sorted(wanted - found), sorted(found - wanted), len(found))


def wheel_files(wheel: Path) -> set[str]:
    """The files of a wheel without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def sdist_files(sdist: Path) -> set[str]:
    """The files of a source distribution without the metadata and what stands beside packages."""
    with tarfile.open(sdist) as archive:
        paths = [Path(member.name) for member in archive.getmembers() if member.isfile()]
    names = {path.relative_to(path.parts[0]).as_posix() for path in paths}
    return {name for name in names - BESIDE_PACKAGES if ".egg-info/" not in name}


def build(folder: Path) -> tuple[Path, Path, set[str]]:
    """A wheel, a source distribution, and the names of the files that they were made from.

    The wheel is made from the source distribution, as those make it who have only that.
    """
    source = copy_checkout(folder / "source")
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    tools = create(folder / "tools")
    tools.install(["build", "pip"], {}, folder / "build.log")
    made = folder / "dist"
    command = [str(tools.python), "-m", "build", "--outdir", str(made), str(source)]
    if run(command, folder, folder / "build.log"):
        raise InputError(f"building failed; see {folder / 'build.log'}")
    tools.remove()
    return next(made.glob("*.whl")), next(made.glob("*.tar.gz")), names


def examine(folder: Path, keep: bool) -> dict[str, Any]:
    """Build, look into, install and run; what came of it."""
    folder.mkdir(parents=True)
    print("building a wheel and a source distribution ...", flush=True)
    wheel, sdist, names = build(folder)
    wanted = expected(names)
    result: dict[str, Any] = {
        "files": {
            "wheel": compare(wheel_files(wheel), wanted),
            "sdist": compare(sdist_files(sdist), wanted),
        },
        "bytes": {"wheel": wheel.stat().st_size, "sdist": sdist.stat().st_size},
        "runs": {},
    }
    for title, artifact, extras, commands, refused in (
        ("wheel", wheel, (), PLAIN, REFUSED),
        ("sdist", sdist, (), PLAIN, REFUSED),
        ("wheel with training", wheel, TRAINING_EXTRAS, TRAINING, ()),
    ):
        place = folder / title.replace(" ", "-")
        print(f"{title}: installing into {place} ...", flush=True)
        environment = _install(artifact, extras, place)
        episode = (str(place / "episode.py"), str(folder / "source"))
        rows = [_outcome(("python", *episode), environment, place)]
        rows += [_outcome(command, environment, place) for command in commands]
        rows += [_outcome(command, environment, place, refused=True) for command in refused]
        result["runs"][title] = rows
        if not keep:
            environment.remove()
    return result


def _install(artifact: Path, extras: tuple[str, ...], place: Path) -> Environment:
    """An environment with the pinned versions, and an empty folder beside it to run in."""
    (place / "outside").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("episode.py"), place)
    environment = create(place / "venv")
    wanted = f"{artifact}[{','.join(extras)}]" if extras else str(artifact)
    environment.install([wanted], pins(), place / "install.log")
    return environment


def _outcome(
    command: tuple[str, ...], environment: Environment, place: Path, refused: bool = False
) -> dict[str, Any]:
    """Run a command of the environment, far from the sources; whether it did what it should."""
    name, *arguments = command
    shown = " ".join([name, *(Path(word).name if word[0] == "/" else word for word in arguments)])
    log = place / f"{len(list(place.glob('*.log')))}.log"
    code = run([str(environment.program(name)), *arguments], place / "outside", log)
    good = code == 0
    if refused:
        said = log.read_text(encoding="utf-8")
        good = code != 0 and "Traceback" not in said and "pip install" in said
    told = f" (refused, code {code})" if refused else ""
    print(f"  {'ok    ' if good else 'FAILED'} {shown}{told}", flush=True)
    return {"command": shown, "refused": refused, "exit": code, "good": good}


def failed(result: dict[str, Any]) -> list[str]:
    """What is wrong with what was built, in words."""
    wrong = []
    for kind, files in result["files"].items():
        wrong += [f"{kind} lacks {name}" for name in files.lacking]
        wrong += [f"{kind} has {name}" for name in files.foreign]
    for title, rows in result["runs"].items():
        wrong += [f"{title}: `{row['command']}` went wrong" for row in rows if not row["good"]]
    return wrong
