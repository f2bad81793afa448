"""The lowest versions of the direct dependencies that can stand together.

pip takes the newest of everything and has no way to ask for the lowest. Here each direct dependency
gets the lowest release that its bound allows and that has a wheel for this Python; where another
direct dependency asks for more, the lowest that suits both. What those bring along is left to pip.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from experiments.inputs import InputError
from tests.supply.requirements import lower_bound

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True, slots=True)
class Choice:
    """The version of one direct dependency."""

    name: str
    version: Version
    bound: Version | None
    """What pyproject.toml allows."""
    raised_by: tuple[str, ...] = ()
    """Requirements of other direct dependencies on it, such as `trl 1.16.0: accelerate>=1.4`."""


@cache
def releases(name: str) -> tuple[Version, ...]:
    """The releases of a package with a wheel for this Python, lowest first.

    Raises `InputError` when the index does not know it or cannot be reached.
    """
    command = [*PIP, "index", "versions", "--only-binary=:all:", name]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.M)
    if done.returncode or found is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"the package index has no wheel of {name} for this Python: {last}")
    versions = map(Version, found[1].split(", "))
    return tuple(sorted({Version(version.public) for version in versions}))


@cache
def demands(name: str, version: Version) -> tuple[Requirement, ...]:
    """What a release asks for, without its extras, by its wheel's metadata."""
    options = ["--dry-run", "--no-deps", "--ignore-installed", "--only-binary=:all:"]
    command = [*PIP, "install", "--quiet", *options, "--report", "-", f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"pip cannot read {name} {version}: {done.stderr.strip()[-500:]}")
    listed = json.loads(done.stdout)["install"][0]["metadata"].get("requires_dist", ())
    plain = map(Requirement, listed)
    return tuple(r for r in plain if r.marker is None or r.marker.evaluate({"extra": ""}))


def lowest_together(
    wanted: Mapping[str, Requirement],
    fixed: Mapping[str, Version],
    releases: Callable[[str], Iterable[Version]] = releases,
    demands: Callable[[str, Version], Iterable[Requirement]] = demands,
) -> tuple[Choice, ...]:
    """The lowest version of each, `fixed` ones as they are.

    Versions only rise until all requirements between the chosen ones hold, so this ends. Raises
    `InputError` when no release is left for one of them.
    """
    asked: dict[str, dict[str, SpecifierSet]] = {name: {} for name in wanted}
    chosen: dict[str, Version] = {}
    while True:
        changed = False
        for name, requirement in wanted.items():
            before = chosen.get(name)
            known = [v for v in releases(name) if before is None or v >= before]
            version = fixed.get(name) or _lowest(name, requirement, asked[name], known)
            if version == before:
                continue
            chosen[name], changed = version, True
            for other in asked:
                asked[other].pop(name, None)
            for demand in demands(name, version):
                other = canonicalize_name(demand.name)
                if other in wanted and other != name:
                    asked[other][name] = demand.specifier
        if not changed:
            return tuple(_choice(wanted[name], chosen, asked[name]) for name in wanted)


def _lowest(
    name: str,
    requirement: Requirement,
    asked: Mapping[str, SpecifierSet],
    known: Iterable[Version],
) -> Version:
    specifiers = [requirement.specifier, *asked.values()]
    for version in known:
        if all(version in specifier for specifier in specifiers):
            return version
    others = "".join(f"; {who} asks for {what}" for who, what in asked.items())
    raise InputError(f"no release of {name} suits all: the project asks for {requirement}{others}")


def _choice(
    requirement: Requirement, chosen: Mapping[str, Version], asked: Mapping[str, SpecifierSet]
) -> Choice:
    name = canonicalize_name(requirement.name)
    bound = lower_bound(requirement)
    raising = [
        f"{who} {chosen[who]}: {name}{what}"
        for who, what in asked.items()
        if bound is not None and chosen[name] > bound and bound not in what
    ]
    return Choice(name, chosen[name], bound, tuple(raising))
