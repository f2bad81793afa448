"""MiniWiki: what holds at every level, and that no world changes unnoticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from refine_env.datasets import miniwiki, open_dataset
from refine_env.datasets.miniwiki import World

SIZES = {"tiny": 440, "small": 900, "full": 1000}


@pytest.fixture(scope="module", params=SIZES)
def world(request: pytest.FixtureRequest) -> World:
    return miniwiki.build(request.param, SIZES[request.param])


def fingerprint(world: World) -> str:
    digest = hashlib.sha256()
    documents = [[document.id, document.title, document.text] for document in world.documents]
    digest.update(json.dumps(documents).encode())
    for questions in world.questions.values():
        for question in questions:
            digest.update(json.dumps(dataclasses.asdict(question)).encode())
    return digest.hexdigest()


def test_the_audit_finds_nothing(world: World) -> None:
    assert miniwiki.audit(world) == []


def test_there_are_as_many_documents_as_asked_for(world: World) -> None:
    assert len(world.documents) == world.size == SIZES[world.level]
    assert all(world.questions[split] for split in ("train", "dev", "test"))


def test_the_same_arguments_give_the_same_world(world: World) -> None:
    miniwiki.world._build.cache_clear()
    again = miniwiki.build(world.level, world.size)
    assert again is not world
    assert again == world
    assert miniwiki.build(world.level, world.size, world_seed=1).documents != world.documents


def test_splits_share_no_entities(world: World) -> None:
    split_of: dict[str, str] = {}
    for split, questions in world.questions.items():
        for question in questions:
            assert question.split == split
            for document_id in question.supporting_ids:
                assert split_of.setdefault(document_id, split) == split


def test_hops_choose_questions_and_leave_the_documents_alone(world: World) -> None:
    chosen = miniwiki.build(world.level, world.size, hops=2)
    assert {q.hops for questions in chosen.questions.values() for q in questions} == {2}
    assert chosen.documents == world.documents
    both = miniwiki.build(world.level, world.size, hops=[1, 2])
    assert {q.hops for questions in both.questions.values() for q in questions} == {1, 2}


def test_tiny_asks_over_three_hops_only_when_told_to() -> None:
    usual = miniwiki.build("tiny")
    longer = miniwiki.build("tiny", hops=[1, 2, 3])
    assert {q.hops for questions in usual.questions.values() for q in questions} == {1, 2}
    for split, questions in longer.questions.items():
        assert [q for q in questions if q.hops != 3] == list(usual.questions[split])
        assert sum(q.hops == 3 for q in questions) > 100
    assert miniwiki.audit(longer) == []


def test_noise_in_tiny_adds_namesakes_and_changes_nothing_else() -> None:
    plain = miniwiki.build("tiny")
    noisy = miniwiki.build("tiny", noise=1.5)
    added = set(noisy.documents) - set(plain.documents)
    assert noisy.questions == plain.questions
    assert set(plain.documents) < set(noisy.documents)
    assert len(added) == 1.5 * plain.size
    assert len({document.title for document in noisy.documents}) == len(noisy.documents)
    titles = {document.title for document in plain.documents}
    for document in added:
        first, between, last = document.title.split()
        assert f"{first} {last}" in titles
        assert between not in (first, last)
        assert document.text.startswith(document.title)
    assert added < set(miniwiki.build("tiny", noise=4).documents)
    assert miniwiki.audit(noisy) == []


def test_supporting_documents_are_one_for_each_hop(world: World) -> None:
    titles = {document.id: document.title for document in world.documents}
    for question in world.questions["dev"]:
        assert len(set(question.supporting_ids)) == question.hops
        steps = question.metadata["hops"]
        assert [step["query"] for step in steps] == [titles[i] for i in question.supporting_ids]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "f346464fbcaddf8ab9e9974a171b1f345299de52bb85013adee6d85415616d7d"),
        (
            {"hops": 2, "world_seed": 3, "size": 500},
            "38046b45cdd200df28e615e315246268e3793a765f12c474c35bff92c97802d1",
        ),
    ],
)
def test_level_tiny_is_what_the_shipped_policy_was_trained_on(
    arguments: dict[str, int], expected: str
) -> None:
    assert fingerprint(miniwiki.build("tiny", **arguments)) == expected


@pytest.mark.parametrize(
    ("level", "expected"), [("small", "bc9bb3642afa0011"), ("full", "17a709784c8874f0")]
)
def test_worlds_of_articles_are_the_same_on_every_machine(level: str, expected: str) -> None:
    """Whoever changes words or draws of a level changes its worlds, and says so here."""
    assert fingerprint(miniwiki.build(level, 300, world_seed=7))[:16] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "huge"}, "unknown MiniWiki level 'huge'; known: tiny, small, full"),
        ({"level": "tiny", "size": 100}, "size must be between 400 and"),
        ({"level": "small", "size": 299}, "size must be between 300 and"),
        ({"level": "small", "size": 50_000}, "level 'full' has names for millions"),
        ({"level": "full", "size": 10**8}, "size must be between 300 and"),
        ({"level": "full", "size": 3_000_000}, r"miniwiki\.stream\(path, 'full', 3000000\)"),
        ({"level": "tiny", "hops": 4}, "questions of 1, 2 and 3 hops, not of 4"),
        ({"level": "small", "hops": [2, 4]}, "questions of 1, 2 and 3 hops, not of 4"),
        ({"level": "full", "noise": 0.9}, "noise must be from 0 to 0.6, got 0.9"),
        ({"level": "full", "noise": -0.1}, "noise must be from 0 to 0.6"),
        ({"level": "tiny", "noise": 4.5}, r"noise must be in \[0, 4\] at this level, got 4.5"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        miniwiki.build(**arguments)  # type: ignore[arg-type]


def test_a_world_opens_as_a_dataset_with_its_arguments() -> None:
    opened = open_dataset("miniwiki", "dev", level="small", size=600, noise=0.3, hops=[2, 3])
    world = miniwiki.build("small", 600, [2, 3], noise=0.3)
    assert opened.questions == world.questions["dev"]
    assert tuple(opened.corpus) == world.documents


def test_titles_are_made_of_the_words_of_their_level(world: World) -> None:
    assert all(re.fullmatch(r"[A-Za-z ]+", document.title) for document in world.documents)


DOCS = Path(__file__).parents[2] / "docs" / "miniwiki.md"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.S))
def test_the_code_of_the_page_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, DOCS.name, "exec"), {})


def test_the_largest_world_of_a_level_has_names_for_all() -> None:
    with pytest.raises(ValueError, match="between 300 and") as raised:
        miniwiki.build("small", 10**9)
    found = re.search(r"and (\d+) documents", str(raised.value))
    assert found
    parts = miniwiki.parts("small", int(found[1]), noise=0.0)
    titles = [document.title for part in parts for document in part.documents]
    assert len(set(titles)) == len(titles) == int(found[1])
