"""Known vulnerabilities of the pinned versions, as pip-audit knows them, and withdrawn releases.

pip-audit reports no vulnerability, with exit code 0, where the service knows none of the packages,
as behind a mirror of the index. So a control goes along, a release whose vulnerabilities have been
published for years: a service that does not name it has not audited anything.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.inputs import InputError
from tests.supply.environments import Environment, create
from tests.supply.requirements import ROOT

SERVICES = ("pypi", "osv")
CONTROL = ("jinja2", "2.4.1")
"""Vulnerable since 2014; the pin of the same package is another version."""
EXPLAINED: Mapping[str, str] = {}
"""Why a vulnerability of a pin does not matter here, by its identifier."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What one service said about the pins."""

    service: str
    answered: bool
    why: str = ""
    """Why not, where it did not answer."""
    audited: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=dict)
    """Identifiers of vulnerabilities by `name==version`."""

    @property
    def open(self) -> dict[str, list[str]]:
        """Those that nobody has explained."""
        left = {pin: [v for v in ids if v not in EXPLAINED] for pin, ids in self.found.items()}
        return {pin: ids for pin, ids in left.items() if ids}


def read_report(service: str, control: Mapping[str, Any], report: Mapping[str, Any]) -> Audit:
    """pip-audit's reports on the control and on the pins."""
    if not any(row.get("vulns") for row in control["dependencies"]):
        reasons = [row.get("skip_reason", "") for row in control["dependencies"]]
        why = f"it does not know the vulnerabilities of {'=='.join(CONTROL)}: {reasons}"
        return Audit(service, answered=False, why=why)
    rows = report["dependencies"]
    return Audit(
        service,
        answered=True,
        audited=sum("skip_reason" not in row for row in rows),
        skipped={row["name"]: row["skip_reason"] for row in rows if "skip_reason" in row},
        found={
            f"{row['name']}=={row['version']}": [vulnerability["id"] for vulnerability in vulns]
            for row in rows
            if (vulns := row.get("vulns"))
        },
    )


def examine(folder: Path, keep: bool) -> dict[str, Any]:
    """Ask each service about the control, then about the pins; look for withdrawn pins."""
    folder.mkdir(parents=True)
    print("installing pip-audit ...", flush=True)
    tools = create(folder / "tools")
    tools.install(["pip-audit", "pip"], {}, folder / "install.log")
    control = folder / "control.txt"
    control.write_text("==".join(CONTROL) + "\n", encoding="utf-8")
    audits = []
    for service in SERVICES:
        print(f"asking {service} about {ROOT / 'constraints.txt'} ...", flush=True)
        audits.append(_ask(tools, service, control, folder))
    print("looking for withdrawn releases ...", flush=True)
    releases = _releases(tools)
    if not keep:
        tools.remove()
    return {"audits": audits, "pins": len(releases), "yanked": [n for n, y in releases if y]}


def _ask(tools: Environment, service: str, control: Path, folder: Path) -> Audit:
    reports = []
    for requirements in (control, ROOT / "constraints.txt"):
        report = folder / f"{service}-{requirements.stem}.json"
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "30"]
        command = [str(tools.program("pip-audit")), "-r", str(requirements), "-s", service]
        done = subprocess.run(
            [*command, *options, "-f", "json", "-o", str(report)], capture_output=True, text=True
        )
        if not report.exists():  # exit codes are 1 for findings and for failures alike
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return Audit(service, answered=False, why=last)
        reports.append(json.loads(report.read_text(encoding="utf-8")))
        if requirements == control and not read_report(service, reports[0], reports[0]).answered:
            return read_report(service, reports[0], reports[0])
    return read_report(service, *reports)


def _releases(tools: Environment) -> list[tuple[str, bool]]:
    """(pin, whether its release was withdrawn) of all pins, as pip reports them.

    Raises `InputError` when pip does not find one.
    """
    options = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-"]
    command = [str(tools.python), "-m", "pip", "install", *options]
    done = subprocess.run(
        [*command, "-r", str(ROOT / "constraints.txt")], capture_output=True, text=True
    )
    if done.returncode:
        raise InputError(f"pip does not find all pins: {done.stderr.strip()[-1000:]}")
    rows = json.loads(done.stdout)["install"]
    return [
        (f"{row['metadata']['name']}=={row['metadata']['version']}", row["is_yanked"])
        for row in rows
    ]


def failed(result: Mapping[str, Any]) -> list[str]:
    """What is wrong, in words. That no service answered is wrong, too: nothing is then shown."""
    audits = result["audits"]
    wrong = [f"{pin} was withdrawn" for pin in result["yanked"]]
    wrong += [
        f"{pin} has {', '.join(ids)} ({a.service})" for a in audits for pin, ids in a.open.items()
    ]
    if not any(audit.answered for audit in audits):
        wrong += [f"not audited: {audit.service} did not answer: {audit.why}" for audit in audits]
    return wrong
