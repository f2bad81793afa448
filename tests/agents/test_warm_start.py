"""Warm starts: one scripted policy in the words of every protocol."""

from __future__ import annotations

import numpy as np
import pytest

from agents import tiny
from agents.rollout import Codec
from agents.sft import IGNORED_LABEL
from agents.warm_start import Habits, copying_features, imitated_worlds, scripted_features
from experiments.reproduction.scales import MINI
from refine_env.config import EnvConfig, build
from refine_env.protocols import load_protocol

assert MINI.warm_start is not None
PROTOCOLS = MINI.warm_start.protocols
TOKENIZER = tiny.build_tokenizer(*(load_protocol(path) for path in PROTOCOLS.values()))


USUAL = Habits()


def written(protocol: str, habits: Habits = USUAL, seed: int = 0) -> list[str]:
    """What the scripted policy says in the first episodes of a world, turn after turn."""
    config = EnvConfig(
        dataset="miniwiki", split="dev", world_seed=1, protocol=PROTOCOLS[protocol], hops=(1, 2, 3)
    )
    rows = scripted_features(build(config), Codec(TOKENIZER), seed, habits)
    kept = [
        [t for t, label in zip(row["input_ids"], row["labels"], strict=True) if label >= 0]
        for row in rows
    ]
    assert not any(TOKENIZER.unk_token_id in row["input_ids"] for row in rows)
    assert all(label in (IGNORED_LABEL, *row) for row in kept for label in row)
    return [TOKENIZER.decode(tokens) for tokens in kept]


def without(text: str, *tags: str) -> str:
    """The text without the blocks of these tags, and without boxes."""
    for tag in tags:
        while f"<{tag}>" in text:
            start, end = text.index(f"<{tag}>"), text.index(f"</{tag}>") + len(f"</{tag}>")
            text = text[:start] + text[end:]
    return " ".join(text.replace("\\boxed{", "").replace("}", "").split())


def test_all_protocols_say_the_same_in_their_own_words() -> None:
    refined = written("autorefine")
    direct = written("search_r1")
    boxed = written("research")
    thought = written("search_r1", Habits(notes_as_thoughts=True))
    assert [without(text, "refine") for text in refined] == direct
    assert [without(text) for text in boxed] == direct
    assert [text.replace("refine>", "think>") for text in refined] == thought
    assert any("<refine>" in text for text in refined)
    assert all("\\boxed{" in text for text in boxed)


def test_the_habits_show() -> None:
    texts = written("autorefine")
    searches = [text.count("<search>") for text in texts]
    assert 1.0 < np.mean(searches) < 1.6  # it often stops before the last hop
    careful = written("autorefine", Habits(reads_right=1.0, looks_further=1.0))
    assert max(text.count("<search>") for text in careful) == 3
    assert np.mean([text.count("<search>") for text in careful]) > np.mean(searches)


@pytest.mark.parametrize("most", [0, 1])
def test_a_bound_on_searches_cuts_the_same_episodes(most: int) -> None:
    whole = written("search_r1")
    cut = written("search_r1", Habits(searches=most))
    assert {text.count("<search>") for text in cut} == {most}
    if most == 0:
        assert cut == [text[text.index("<answer>") :] for text in whole]
    else:
        alone = [place for place, text in enumerate(whole) if text.count("<search>") == 1]
        assert [cut[place] for place in alone] == [whole[place] for place in alone]
        assert len(alone) > len(whole) / 2


def test_turns_after_refined_documents_are_shown_without_them_too() -> None:
    config = EnvConfig(dataset="miniwiki", split="dev", world_seed=1, hops=(1, 2, 3),
                       protocol=PROTOCOLS["autorefine"])  # fmt: skip
    components, codec = build(config), Codec(TOKENIZER)
    usual = scripted_features(components, codec, 0)
    both = scripted_features(components, codec, 0, Habits(drops_documents=True))
    assert both[: len(usual)] == usual
    added = both[len(usual) :]
    # a turn has refined what the turn before it found: it is missed from the third turn on
    wrote = [[label for label in row["labels"] if label >= 0] for row in usual]
    searches = [TOKENIZER.decode(tokens).count("</search>") for tokens in wrote]
    assert len(added) == sum(max(0, number - 1) for number in searches) > 0
    empty = codec.encode(components.protocol.format_documents((), 1))
    for row in added:
        ids, labels = row["input_ids"], row["labels"]
        start = max(place for place, label in enumerate(labels) if label == IGNORED_LABEL) + 1
        assert labels[start:] == ids[start:]
        assert set(labels[:start]) == {IGNORED_LABEL}
        assert any(ids[place : place + len(empty)] == [*empty] for place in range(start))


def test_worlds_have_the_depths_in_turn() -> None:
    worlds = list(imitated_worlds((1, 2, 3), (1,), (1, 5)))
    assert [(c.world_seed, c.top_k) for c in worlds if c.split == "dev"] == [(1, 1), (2, 5), (3, 1)]
    assert {c.top_k for c in imitated_worlds((1, 2), None)} == {EnvConfig().top_k}


def test_another_seed_draws_other_episodes() -> None:
    assert written("autorefine") != written("autorefine", seed=1)


def test_only_what_was_there_before_is_to_be_copied() -> None:
    rows = copying_features(20, len(TOKENIZER), np.random.default_rng(0))
    for row in rows:
        learned = [n for n, label in enumerate(row["labels"]) if label != IGNORED_LABEL]
        copied = [row["input_ids"][n] for n in learned]
        assert copied == row["input_ids"][1 : len(copied) + 1]


def test_a_box_is_one_token_and_comes_back() -> None:
    text = "<answer> \\boxed{ South Harrow } </answer>"
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert "\\boxed{" in TOKENIZER.convert_ids_to_tokens(ids)
