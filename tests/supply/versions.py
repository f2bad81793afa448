"""The tests with the lowest and with the newest versions of the direct dependencies.

Each is a virtual environment of its own with a copy of the checkout. The core alone runs what needs
no extra; a test that fails because a package of an extra is not there is counted apart.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from experiments.inputs import InputError
from tests.supply.environments import Environment, copy_checkout, create, run
from tests.supply.lowest import lowest_together
from tests.supply.requirements import pins, requirements

TOOLS = ("pytest", "hypothesis")
"""What runs the tests. Their versions are those of constraints.txt."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Extras that are installed together, and the tests that are run with them."""

    extras: tuple[str, ...]
    tests: tuple[str, ...]
    lacks: frozenset[str] = frozenset()
    """Modules that are not there; a test that fails for want of one needs an extra."""


PARTS = {
    "core": Parts(
        (),
        (
            "tests/adversarial",
            "tests/conformance",
            "tests/datasets",
            "tests/golden",
            "tests/retrieval/*.py",
            "tests/test_*.py",
        ),
        frozenset(
            "accelerate anyio datasets faiss httpcore httpx huggingface_hub matplotlib numba peft "
            "psutil pyarrow pyserini ray safetensors sklearn starlette sweeps tokenizers torch "
            "transformers trl uvicorn wandb yaml".split()
        ),
    ),
    "extras": Parts(
        ("fast", "train", "hf", "chat", "data", "dense", "serve", "wandb", "sweeps"),
        (
            "tests/agents/test_chat.py",
            "tests/agents/test_engine.py",
            "tests/agents/test_grpo.py",
            "tests/agents/test_language_model.py",
            "tests/agents/test_lora.py",
            "tests/agents/test_models.py",
            "tests/agents/test_sft.py",
            "tests/agents/test_wandb_runs.py",
            "tests/datasets/test_download.py",
            "tests/datasets/test_records.py",
            "tests/datasets/test_verl.py",
            "tests/experiments/test_export.py",
            "tests/experiments/test_report.py",
            "tests/experiments/test_sweep_files.py",
            "tests/experiments/test_sweep_local.py",
            "tests/experiments/test_sweep_summary.py",
            "tests/experiments/test_train.py",
            "tests/retrieval/dense",
            "tests/retrieval/test_cache.py",
            "tests/retrieval/test_http.py",
            "tests/retrieval/test_kernel.py",
            "tests/retrieval/test_server.py",
            "tests/test_cli.py",
        ),
    ),
}
KINDS = ("lowest", "newest")
NOT_TRIED = ("torch",)
"""Other builds than the pinned one are gigabytes of GPU libraries: the pin stands in both."""
MISSING = re.compile(
    r"No module named '(\w+)|could not import '(\w+)"
    r"|needs (\w+)(?:, which is not installed)?: pip install"
)


def examine(name: str, kind: str, folder: Path, keep: bool) -> dict[str, Any]:
    """Install one part in one kind of versions, run its tests; the counts and versions."""
    folder.mkdir(parents=True)
    part = PARTS[name]
    held = {package: pins()[package] for package in NOT_TRIED}
    result: dict[str, Any] = {"part": name, "kind": kind, "extras": part.extras}
    chosen = held
    if kind == "lowest":
        print(f"{name}, lowest: which versions these are ...", flush=True)
        choices = lowest_together(requirements(part.extras), held)
        chosen = {choice.name: choice.version for choice in choices}
        result["raised"] = {c.name: c.raised_by for c in choices if c.raised_by}
    print(f"{name}, {kind}: installing into {folder} ...", flush=True)
    environment, source = _install(part, chosen, folder)
    installed = environment.versions()
    wanted = requirements(part.extras)
    result["direct"] = {n: v for n, v in installed.items() if n.lower().replace("_", "-") in wanted}
    result["installed"] = installed
    print(f"{name}, {kind}: tests, with output in {folder / 'tests.log'} ...", flush=True)
    result |= _run_tests(part, environment, source, folder)
    if not keep:
        environment.remove()
    return result


def _install(part: Parts, chosen: Mapping[str, Version], folder: Path) -> tuple[Environment, Path]:
    source = copy_checkout(folder / "source")
    environment = create(folder / "venv")
    tools = {tool: pins()[tool] for tool in TOOLS}
    project = f"{source}[{','.join(part.extras)}]" if part.extras else str(source)
    environment.install(["-e", project, *TOOLS], {**tools, **chosen}, folder / "install.log")
    return environment, source


def _run_tests(part: Parts, environment: Environment, source: Path, folder: Path) -> dict[str, Any]:
    paths = [
        str(found.relative_to(source)) for path in part.tests for found in sorted(source.glob(path))
    ]
    report = folder / "tests.xml"
    options = ["-q", "-m", "not slow", "--continue-on-collection-errors", f"--junitxml={report}"]
    command = [str(environment.python), "-m", "pytest", *options, *paths]
    code = run(command, source, folder / "tests.log")
    if not report.exists():
        raise InputError(f"pytest could not start; see {folder / 'tests.log'}")
    return {"pytest_exit": code} | count(report, part.lacks)


def count(report: Path, lacks: Collection[str]) -> dict[str, Any]:
    """Counts of a JUnit report, and the names of the tests that failed.

    Where modules are lacking on purpose, what fails for want of them is counted apart.
    """
    counts = dict.fromkeys(("passed", "skipped", "needs an extra", "failed"), 0)
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = _outcome(case, lacks)
        counts[outcome] += 1
        if outcome == "failed":
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    return {"counts": counts, "failed": failed}


def _outcome(case: ElementTree.Element, lacks: Collection[str]) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    faults = [*case.findall("failure"), *case.findall("error")]
    texts = [f"{fault.get('message', '')}\n{fault.text or ''}" for fault in faults]
    named = {next(filter(None, match)) for text in texts for match in MISSING.findall(text)}
    if not faults:
        return "passed"
    return "needs an extra" if named and named <= set(lacks) else "failed"


def table(results: list[dict[str, Any]]) -> str:
    """The counts as a Markdown table."""
    rows = [["installed", "versions", "passed", "skipped", "need an extra", "failed"]]
    rows.append(["---"] * len(rows[0]))
    for result in results:
        counts = map(str, result["counts"].values())
        rows.append([result["part"], result["kind"], *counts])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
