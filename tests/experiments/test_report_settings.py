"""Settings by dotted names, as reports, sweeps and resumed runs read them."""

from __future__ import annotations

from experiments.settings_text import as_text, flat, last_parts

SETTINGS = {"env": "x", "env_options": {"reward": {"name": "linear"}, "files": {}}, "grpo": {}}


def test_sections_are_opened_to_the_depth_that_is_asked_for() -> None:
    assert flat(SETTINGS) == {"env": "x", "env_options.reward.name": "linear"}
    assert flat(SETTINGS, depth=1) == {
        "env": "x",
        "env_options.reward": {"name": "linear"},
        "env_options.files": {},
    }


def test_empty_sections_stand_where_they_are_asked_for() -> None:
    assert flat(SETTINGS, keep_empty=True) == {
        "env": "x",
        "env_options.reward.name": "linear",
        "env_options.files": {},
        "grpo": {},
    }


def test_text_stands_as_it_is_and_all_else_as_json() -> None:
    assert [as_text(value) for value in ("a b", "é", 1e-3, None, ["é"])] == [
        "a b",
        "é",
        "0.001",
        "null",
        '["é"]',
    ]


def test_names_are_their_last_parts_where_these_tell_them_apart() -> None:
    assert last_parts(["grpo.rate", "a.seed", "b.seed", "env"]) == {
        "grpo.rate": "rate",
        "a.seed": "a.seed",
        "b.seed": "b.seed",
        "env": "env",
    }
