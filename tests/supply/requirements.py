"""What the project asks for: its requirements by extra, its pins, its package data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def project(root: Path = ROOT) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(extras: Iterable[str] = (), root: Path = ROOT) -> dict[str, Requirement]:
    """The direct dependencies of the core and of extras, by canonical name.

    What several extras ask for is joined. Extras of the project within extras are followed;
    requirements for other systems are left out.
    """
    table = project(root)["project"]
    found: dict[str, Requirement] = {}
    for requirement in _listed(table, extras):
        name = canonicalize_name(requirement.name)
        if name in found:
            found[name].specifier &= requirement.specifier
            found[name].extras |= requirement.extras
        else:
            found[name] = requirement
    return found


def _listed(table: Mapping[str, Any], extras: Iterable[str]) -> Iterator[Requirement]:
    lists = [table["dependencies"], *(table["optional-dependencies"][extra] for extra in extras)]
    for requirement in (Requirement(text) for texts in lists for text in texts):
        if canonicalize_name(requirement.name) == table["name"]:
            yield from _listed({**table, "dependencies": []}, sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def extras(root: Path = ROOT) -> tuple[str, ...]:
    """The names of all extras."""
    return tuple(project(root)["project"]["optional-dependencies"])


def pins(root: Path = ROOT) -> dict[str, Version]:
    """The versions of constraints.txt by canonical name."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def lower_bound(requirement: Requirement) -> Version | None:
    """The version that a requirement names as its lowest, None without one."""
    bounds = [
        Version(part.version)
        for part in requirement.specifier
        if part.operator in (">=", "==", "~=", ">")
    ]
    return max(bounds, default=None)
