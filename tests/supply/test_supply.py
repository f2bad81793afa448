"""What must hold of the dependencies in every checkout, and that the checks of them can fail."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from experiments.inputs import InputError
from tests.supply import audit, licences, versions
from tests.supply.built import LEFT_OUT, PACKAGES, compare, expected
from tests.supply.lowest import lowest_together
from tests.supply.requirements import ROOT, extras, lower_bound, pins, project, requirements


def test_every_direct_dependency_that_is_installed_has_a_compatible_licence():
    direct = [licence for licence in licences.installed() if licence.direct]
    assert {canonicalize_name(licence.name) for licence in direct} >= set(requirements())
    assert {licence for licence in direct if licence.verdict == "unexplained"} == set()


@pytest.mark.parametrize("extra", ["", *extras()])
def test_every_lower_bound_is_at_most_the_pin(extra: str):
    pinned = pins()
    for name, requirement in requirements([extra] if extra else []).items():
        bound = lower_bound(requirement)
        assert bound is not None, f"{requirement} has no lower bound"
        assert name not in pinned or bound <= pinned[name]


def files_of(package: str) -> set[Path]:
    paths = (path for path in (ROOT / package).rglob("*") if path.is_file())
    left_out = tuple(str(ROOT / name) for name in LEFT_OUT)
    return {
        path
        for path in paths
        if "__pycache__" not in path.parts and not str(path).startswith(left_out)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_code_or_package_data(package: str):
    patterns = project()["tool"]["setuptools"]["package-data"][package]
    data = {path for pattern in patterns for path in (ROOT / package).glob(pattern)}
    code = {path for path in files_of(package) if path.suffix == ".py"}
    assert code
    assert {str(path.relative_to(ROOT)) for path in files_of(package) - code - data} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package(package: str):
    """setuptools finds no other; its modules would be missing from the wheel."""
    folders = {path.parent for path in files_of(package) if path.suffix == ".py"}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


RELEASES = {
    "outer": [Version("1.0"), Version("1.5"), Version("2.0")],
    "inner": [Version("0.9"), Version("1.0"), Version("1.2"), Version("3.0")],
}


def asking(**texts: str):
    """`demands` of a small index: what releases such as `outer_1_0` ask for."""
    return lambda name, version: [
        Requirement(text) for text in [texts.get(f"{name}_{version}".replace(".", "_"), "")] if text
    ]


def choose(demands, **fixed: str) -> dict[str, str]:
    wanted = {"inner": Requirement("inner>=1"), "outer": Requirement("outer>=1.2,<2")}
    held = {name: Version(version) for name, version in fixed.items()}
    found = lowest_together(wanted, held, RELEASES.__getitem__, demands)
    return {choice.name: str(choice.version) for choice in found}


def test_the_lowest_versions_are_those_of_the_bounds():
    assert choose(asking()) == {"inner": "1.0", "outer": "1.5"}


def test_a_direct_dependency_raises_another():
    assert choose(asking(outer_1_5="inner>=1.1")) == {"inner": "1.2", "outer": "1.5"}
    wanted = {"inner": Requirement("inner>=1"), "outer": Requirement("outer>=1.2")}
    found = lowest_together(wanted, {}, RELEASES.__getitem__, asking(outer_1_5="inner>=1.1"))
    assert [choice.raised_by for choice in found] == [("outer 1.5: inner>=1.1",), ()]


def test_versions_that_cannot_stand_together_are_an_error():
    with pytest.raises(InputError, match=r"no release of inner suits all: .*outer asks for >=4"):
        choose(asking(outer_1_5="inner>=4"))


def test_a_version_that_is_held_is_not_looked_for():
    assert choose(asking(), inner="3.0") == {"inner": "3.0", "outer": "1.5"}


def with_metadata(**fields: str) -> str:
    """The licence that is read from such metadata."""
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value

    class Described:
        metadata = message

    return licences.expression_of(Described())  # type: ignore[arg-type]


def test_licences_are_read_from_the_most_exact_field():
    assert with_metadata(License_Expression="ISC", License="MIT License") == "ISC"
    assert with_metadata(License="Apache 2.0") == "Apache-2.0"
    text = "Permission is hereby granted\nto anyone"
    assert with_metadata(License=text, Classifier="License :: OSI Approved :: BSD License") == "BSD"
    assert with_metadata(Name="nothing") == "unknown"


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("MIT", True),
        ("MIT AND BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("(MIT OR ISC) AND GPL-3.0-only", False),
        ("unknown", False),
    ],
)
def test_an_expression_is_allowed_when_all_of_one_choice_is(expression: str, fits: bool):
    assert licences.allowed(expression) is fits


def test_every_explanation_is_needed():
    """Of what is installed here: an allowed licence needs none."""
    found = {canonicalize_name(licence.name): licence for licence in licences.installed()}
    assert {n for n in licences.EXPLAINED if n in found and found[n].verdict == "allowed"} == set()


UNKNOWN = {"dependencies": [{"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}]}
VULNERABLE = {"dependencies": [{"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "OLD-1"}]}]}
SOME = {
    "dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "vulns": [{"id": "NEW-1"}]},
        {"name": "c", "skip_reason": "not found"},
    ]
}


def test_a_service_that_does_not_know_the_control_has_audited_nothing():
    """Behind a mirror of the index pip-audit says that no vulnerability is known."""
    answer = audit.read_report("pypi", UNKNOWN, UNKNOWN)
    assert not answer.answered
    wrong = audit.failed({"audits": [answer], "yanked": []})
    assert "not audited" in wrong[0]


def test_what_was_found_is_told_until_it_is_explained(monkeypatch: pytest.MonkeyPatch):
    answer = audit.read_report("pypi", VULNERABLE, SOME)
    assert (answer.answered, answer.audited, list(answer.skipped)) == (True, 2, ["c"])
    result = {"audits": [answer], "yanked": []}
    assert audit.failed(result) == ["b==2 has NEW-1 (pypi)"]
    monkeypatch.setattr(audit, "EXPLAINED", {"NEW-1": "not reachable"})
    assert audit.failed(result) == []


def test_the_control_is_no_pin_of_ours():
    name, version = audit.CONTROL
    assert pins()[name] != Version(version)


def test_a_lost_file_and_a_foreign_one_are_told():
    wanted = expected(["agents/a.py", "experiments/results/r.md", "tests/t.py", "refine_env/c.css"])
    assert wanted == {"agents/a.py", "refine_env/c.css"}
    found = compare({"agents/a.py", "tests/t.py"}, wanted)
    assert (found.lacking, found.foreign) == (["refine_env/c.css"], ["tests/t.py"])


REPORT = """<testsuites><testsuite>
<testcase classname="t" name="fine"/>
<testcase classname="t" name="left"><skipped message="no data"/></testcase>
<testcase classname="t" name="extra"><failure message="ModuleNotFoundError: No module named
 'torch'">No module named 'torch'</failure></testcase>
<testcase classname="t" name="broken"><failure message="No module named 'numpy'"/></testcase>
<testcase classname="t" name="wrong"><failure message="assert 1 == 2">assert</failure></testcase>
</testsuite></testsuites>"""


def test_only_a_module_that_is_lacking_on_purpose_excuses_a_failure(tmp_path: Path):
    report = tmp_path / "tests.xml"
    report.write_text(REPORT, encoding="utf-8")
    found = versions.count(report, {"torch"})
    assert list(found["counts"].values()) == [1, 1, 1, 2]
    assert found["failed"] == ["t::broken", "t::wrong"]


def test_the_parts_name_what_there_is():
    known = set(extras())
    for part in versions.PARTS.values():
        assert set(part.extras) <= known
        assert all(list(ROOT.glob(path)) for path in part.tests)


def test_the_project_itself_is_under_the_licence_that_it_names():
    assert distribution("refine-env").metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
