"""What adversaries earn: the figures, and that picture and words say what the figures say."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from experiments.inputs import InputError
from experiments.reproduction import forgery
from refine_env.rewards import PRESETS

SMALL = {**forgery.ENVIRONMENT, "level": "small", "size": 600}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return forgery.measure(60, environment=SMALL)


def mean(data: dict[str, Any], agent: str, scoring: str, group: str = "all") -> float:
    return data["agents"][agent][group]["rewards"][scoring]["mean"]


def test_every_agent_is_scored_under_everything_on_every_question(data):
    assert list(data["agents"]) == [*forgery.ADVERSARIES, *forgery.FIXED_POINTS]
    assert data["questions"]["all"] == data["questions"]["span"] + data["questions"]["yes/no"] == 60
    for groups in data["agents"].values():
        for group, found in groups.items():
            assert set(found["rewards"]) == set(found["above_honest"]) == {*PRESETS, "published"}
            estimates = [e for kind in found.values() for e in kind.values()]
            assert {e["n"] for e in estimates} == {data["questions"][group]}
            assert all(e["low"] <= e["mean"] <= e["high"] for e in estimates)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_the_same_seed_gives_the_same_figures(data):
    assert forgery.measure(60, environment=SMALL) == data


def test_the_oracle_is_paid_in_full_and_adversaries_with_junk_the_refine_weight_at_most(data):
    assert all(mean(data, "oracle", scoring) >= 1 for scoring in data["scorings"])
    for agent in ("document-copier", "substring-spammer", "tag-forger"):
        assert 0 <= mean(data, agent, "autorefine") <= mean(data, agent, "official") <= 0.1
        assert mean(data, agent, "f1") == mean(data, agent, "em") == 0
        assert mean(data, agent, "research") == pytest.approx(0.1)


def test_yes_and_no_pay_for_tricks_under_the_looser_scorings_alone(data):
    for agent, loose in (("substring-spammer", "official"), ("tag-forger", "published")):
        assert mean(data, agent, loose, "yes/no") == pytest.approx(0.1)
        assert mean(data, agent, "autorefine", "yes/no") == 0


def test_what_is_above_honest_search_is_the_difference_of_the_means(data):
    for agent, groups in data["agents"].items():
        above = groups["all"]["above_honest"]["cover_em"]["mean"]
        difference = mean(data, agent, "cover_em") - mean(data, "single-search", "cover_em")
        assert above == pytest.approx(difference)


def test_the_words_follow_the_figures(data):
    text = forgery.section(data)
    paid = mean(data, "candidate-lister", "cover_em")
    assert f"is {paid:.3f}, `cover_em` to `candidate-lister`" in text
    assert "`tag-forger` 0.100 instead of 0.000" in text

    turned = deepcopy(data)
    for agent in turned["adversaries"]:
        for found in turned["agents"][agent].values():
            for scoring in turned["scorings"]:
                for estimate in (found["rewards"][scoring], found["above_honest"][scoring]):
                    estimate.update(mean=0.0, low=0.0, high=0.0)
    turned["agents"]["tag-forger"]["all"]["rewards"]["em"]["mean"] = 0.9
    text = forgery.section(turned)
    assert "is 0.900, `em` to `tag-forger`" in text
    assert "difference: none under any scoring." in text
    assert "largest: to no adversary." in text


def test_the_picture_is_written_as_png_and_svg(data, tmp_path: Path):
    png, svg = forgery.plot(data, tmp_path / "forgery")
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text(encoding="utf-8")
    labels = [*data["agents"], *data["scorings"], "yes/no questions"]
    assert all(f"<!-- {label}" in drawn for label in labels)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"questions": 0}, "from 1 to"), ({"questions": 10**6}, "from 1 to"), ({"seed": -1}, "-1")],
)
def test_wrong_input_is_told(wrong: dict[str, int], said: str):
    with pytest.raises(InputError, match=said):
        forgery.measure(**wrong, environment=SMALL)


def test_what_is_measured_is_kept_until_the_settings_change(data, tmp_path: Path, monkeypatch):
    calls = []
    told = {**data, "asked": forgery.QUESTIONS, "environment": dict(forgery.ENVIRONMENT)}
    monkeypatch.setattr(forgery, "measure", lambda: calls.append(1) or told)
    root = tmp_path / "mini"
    assert forgery.kept(root) == forgery.kept(root) == told
    assert len(calls) == 1
    (root / forgery.FILE).write_text(json.dumps({**told, "adversaries": ["document-copier"]}))
    assert forgery.kept(root) == told
    assert len(calls) == 2


def test_a_damaged_file_is_told(tmp_path: Path):
    (tmp_path / forgery.FILE).write_text('{"seed": 0, "agen')
    with pytest.raises(InputError, match=r"forgery\.json cannot be read"):
        forgery.kept(tmp_path)
