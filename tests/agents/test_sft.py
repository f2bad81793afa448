"""Supervised fine-tuning learns what the policy wrote and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.rollout import Rollout
from agents.sft import (
    IGNORED_LABEL,
    SFTSettings,
    order_by_length,
    rollout_features,
    train_sft,
)
from refine_env.config import Components
from tests.policies import random_model, word_tokenizer

TOKENIZER = word_tokenizer()


@pytest.fixture
def rollout(components: Components) -> Rollout:
    episode = components.start(components.questions[0])
    return Rollout(episode, 0, [5, 6], [7, 8, 9, 10], [0.0] * 4, [1, 0, 0, 1])


def test_only_what_the_policy_wrote_is_a_label(rollout: Rollout) -> None:
    features = rollout_features(rollout)
    assert features["input_ids"] == [5, 6, 7, 8, 9, 10]
    assert features["labels"] == [IGNORED_LABEL] * 2 + [7] + [IGNORED_LABEL] * 2 + [10]
    everything = rollout_features(rollout, train_on_documents=True)
    assert everything["labels"] == everything["input_ids"]


def losses(model: Any, ids: list[int]) -> list[float]:
    """Of each token after the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(ids[1:]), reduction="none"
    ).tolist()


def test_labels_are_learned_and_what_is_masked_is_not(tmp_path: Path) -> None:
    model = random_model(TOKENIZER, layers=1, spread=0.02)
    ids, masked = [5, 9, 12, 9, 14, 9, 16], (2, 4, 6)
    labels = [IGNORED_LABEL if place in (0, *masked) else token for place, token in enumerate(ids)]
    short = {"input_ids": ids[:2], "labels": labels[:2]}  # padding is no label either
    settings = SFTSettings(steps=30, batch_size=2, learning_rate=3e-2)
    before = losses(model, ids)
    loss = train_sft(
        model, TOKENIZER, [{"input_ids": ids, "labels": labels}, short], settings, tmp_path
    )
    after = losses(model, ids)
    assert loss < before[0]
    assert max(after[place - 1] for place in (1, 3, 5)) < 0.3
    assert min(after[place - 1] for place in masked) > 2.0


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    features = [{"input_ids": [5, n, 6], "labels": [5, n, 6]} for n in range(7, 17)]
    runs = []
    for seed in (0, 0, 1):
        model = random_model(TOKENIZER, layers=1)
        train_sft(model, TOKENIZER, features, SFTSettings(4, 2, seed=seed), tmp_path)
        runs.append(model.get_input_embeddings().weight.detach().clone())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def rows_of(lengths: list[int]) -> list[dict[str, list[int]]]:
    rows = [[5 + place % 9 for place in range(length)] for length in lengths]
    return [{"input_ids": row, "labels": row} for row in rows]


def test_batches_stay_random_and_only_their_rows_are_sorted_by_length() -> None:
    features = rows_of([3, 9, 4, 8, 5, 7, 6, 2])
    settings = SFTSettings(steps=6, batch_size=4, seed=1)
    order = order_by_length(features, settings)
    assert len(order) == 24
    for epoch in (order[:8], order[8:16], order[16:]):
        assert sorted(epoch) == list(range(8))
    lengths = [len(features[place]["input_ids"]) for place in order]
    batches = [lengths[start : start + 4] for start in range(0, 24, 4)]
    assert all(batch == sorted(batch) for batch in batches)
    assert len({tuple(batch) for batch in batches}) > 1
    assert order == order_by_length(features, settings)
    assert order != order_by_length(features, SFTSettings(steps=6, batch_size=4, seed=2))


def test_grouping_by_length_changes_no_gradient(tmp_path: Path) -> None:
    features = rows_of([3, 9, 4, 8, 5, 7, 6, 2])
    outcomes = []
    for micro_batch in (4, 2, 1):
        model = random_model(TOKENIZER, layers=1)
        settings = SFTSettings(
            steps=2, batch_size=4, micro_batch=micro_batch, group_by_length=True, learning_rate=1e-3
        )
        loss = train_sft(model, TOKENIZER, features, settings, tmp_path, quiet=True)
        outcomes.append([loss, *losses(model, [5, 5, 7, 9])])  # Adam blows up the last bits
    assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-3)
    assert outcomes[2] == pytest.approx(outcomes[0], rel=1e-3)
