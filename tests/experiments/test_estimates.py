"""Groups, means over seeds, bootstrap intervals, and the statistics of paired differences."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from rich.console import Console

from experiments.evaluation.config import EvaluateConfig
from experiments.evaluation.estimates import (
    MACRO,
    difference,
    estimate_groups,
    group_places,
    places_of_groups,
    resampled_means,
    scores_of,
)
from experiments.evaluation.paired import PERMUTATIONS, paired_difference, sign_flip_p
from experiments.evaluation.report import HEADLINE, Evaluation, show
from experiments.evaluation.work import Cell, Key
from refine_env import Question
from refine_env.metrics import Estimate, bootstrap_mean


def question(number: int, dataset: str = "nq", hops: int | None = 1) -> Question:
    return Question(f"{dataset}:{number}", "?", ("x",), dataset=dataset, hops=hops)


def rows_of(values: dict[str, list[list[float]]], asked: dict[str, list[Question]]):
    """Rows of the metric em: environment -> seed -> question."""
    return {
        Key(Cell(env, "full", seed), some.id): {"em": value, "turns": 1.0}
        for env, by_seed in values.items()
        for seed, column in enumerate(by_seed)
        for some, value in zip(asked[env], column, strict=True)
    }


def test_seeds_are_averaged_within_a_question_which_stays_the_unit():
    asked = {"e": [question(0), question(1)]}
    rows = rows_of({"e": [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]}, asked)
    scores = scores_of(rows, asked, "full", [0, 1, 2])
    assert scores.values_QM[:, scores.metrics.index("em")].tolist() == [2 / 3, 0.0]
    found = estimate_groups(scores)["all"]["em"]
    assert (found.mean, found.n) == (round(1 / 3, 10), 2)
    assert (found.low, found.high) == (0.0, round(2 / 3, 10))  # of two questions, not of six runs


def test_a_question_that_lacks_a_seed_is_an_error():
    asked = {"e": [question(0)]}
    rows = rows_of({"e": [[1.0]]}, asked)
    with pytest.raises(KeyError):
        scores_of(rows, asked, "full", [0, 1])


def test_a_metric_that_some_questions_lack_has_an_n_of_its_own():
    asked = {"e": [question(number) for number in range(4)]}
    rows = rows_of({"e": [[1.0] * 4]}, asked)
    for number in (0, 2):
        rows[Key(Cell("e", "full", 0), f"nq:{number}")]["supporting_recall"] = 0.5
    found = estimate_groups(scores_of(rows, asked, "full", [0]))["all"]
    assert (found["em"].n, found["supporting_recall"].n) == (4, 2)
    assert found["supporting_recall"].mean == 0.5


def test_groups_are_hops_and_datasets_and_none_that_equals_all():
    nq = [question(number) for number in range(3)]
    assert list(group_places(nq)) == ["all"]
    musique = [question(number, "musique", hops) for number, hops in enumerate((2, 3, 2))]
    assert group_places(musique) == {"all": [0, 1, 2], "2-hop": [0, 2], "3-hop": [1]}
    both = group_places([*nq, *musique, question(9, "own", None)])
    assert both == {
        "all": [0, 1, 2, 3, 4, 5, 6],
        "single-hop": [0, 1, 2],
        "multi-hop": [3, 4, 5],
        "nq": [0, 1, 2],
        "musique": [3, 4, 5],
        "own": [6],
        "2-hop": [3, 5],
        "3-hop": [4],
    }


def test_groups_of_columns_are_all_that_there_are():
    assert places_of_groups(["a", "b", "a", "b"], [1, 2, 2, None]) == {
        "all": [0, 1, 2, 3],
        "single-hop": [0],
        "multi-hop": [1, 2],
        "a": [0, 2],
        "b": [1, 3],
        "2-hop": [1, 2],
    }


def test_questions_of_a_multi_hop_dataset_are_multi_hop_whatever_their_file_tells():
    groups = places_of_groups(["musique", "own", "2wikimultihopqa"], [None, None, 1])
    assert groups["multi-hop"] == [0]
    assert groups["single-hop"] == [2]


def test_the_mean_of_datasets_counts_each_dataset_alike():
    asked = {"a": [question(0)], "b": [question(n, "musique", 2) for n in range(3)]}
    rows = rows_of({"a": [[1.0]], "b": [[0.0, 0.0, 0.0]]}, asked)
    estimates = estimate_groups(scores_of(rows, asked, "full", [0]))
    assert estimates["all"]["em"].mean == 0.25
    assert estimates[MACRO]["em"].mean == 0.5
    assert estimates[MACRO]["em"].n == 4
    assert (estimates[MACRO]["em"].low, estimates[MACRO]["em"].high) == (0.5, 0.5)


def test_intervals_are_those_of_the_project_s_bootstrap():
    values = np.random.default_rng(1).random(50)
    low, high = np.quantile(resampled_means(values[:, None], seed=0)[:, 0], [0.025, 0.975])
    expected = bootstrap_mean(values.tolist())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    theory = 1.96 * values.std() / math.sqrt(50)
    assert high - low == pytest.approx(2 * theory, rel=0.1)


def test_resampling_many_questions_in_parts_is_resampling_them_at_once():
    values = np.random.default_rng(2).random((3000, 2))
    means = resampled_means(values, resamples=700)  # 349 fit at once
    assert means.shape == (700, 2)
    assert len(np.unique(means[:, 0])) == 700
    assert means.std(axis=0) == pytest.approx(values.std(axis=0) / math.sqrt(3000), rel=0.1)


def test_differences_are_paired_by_question():
    asked = {"e": [question(number) for number in range(6)]}
    one = scores_of(rows_of({"e": [[0, 1, 0, 1, 0, 1]]}, asked), asked, "full", [0])
    other = scores_of(rows_of({"e": [[1, 0, 1, 0, 1, 0]]}, asked), asked, "full", [0])
    crossed = [(place, (place + 1) % 6) for place in range(6)]
    found = difference(one, other, crossed)
    assert found.values_QM[:, found.metrics.index("em")].tolist() == [0.0] * 6


# -- permutation


def test_a_small_p_value_is_exact():
    differences = np.array([1.0, 2.0, 3.0, 0.0, -0.5])
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    assert sign_flip_p(differences) == expected == 4 / 16


def test_no_difference_is_no_evidence():
    assert sign_flip_p(np.zeros(30)) == 1.0
    found = paired_difference(np.zeros(30))
    assert (found.mean, found.low, found.high, found.p, found.n) == (0.0, 0.0, 0.0, 1.0, 30)


def test_p_is_never_zero_and_the_same_again():
    differences = np.ones(200)
    assert sign_flip_p(differences) == 1 / (PERMUTATIONS + 1)
    mixed = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 300, p=[0.25, 0.4, 0.35])
    assert sign_flip_p(mixed) == sign_flip_p(mixed)
    assert sign_flip_p(mixed) == sign_flip_p(-mixed)


def test_the_p_value_of_many_differences_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    mixed = np.random.default_rng(4).normal(0.12, 1.0, 150)
    expected = stats.permutation_test(
        (mixed,), np.mean, permutation_type="samples", n_resamples=4_000, random_state=0
    )
    assert sign_flip_p(mixed) == pytest.approx(expected.pvalue, abs=0.015)


def test_p_values_are_uniform_where_nothing_is_different():
    rng = np.random.default_rng(5)
    found = [sign_flip_p(rng.normal(size=40), seed=i, permutations=400) for i in range(400)]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.045)


def test_an_interval_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(6)
    covered = [
        found.low <= 0.3 <= found.high
        for found in (paired_difference(rng.normal(0.3, 1.0, 60), seed=i) for i in range(120))
    ]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_no_questions_are_an_error():
    with pytest.raises(ValueError, match="no differences"):
        paired_difference(np.zeros(0))


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_the_table_of_groups_is_not_cut_in_a_narrow_terminal(width: int):
    group = {name: Estimate(0.25, 0.125, 0.375, 40) for name in (*HEADLINE, "turns")}
    names = ("all", "single-hop", "multi-hop", "hotpotqa", "nq", "mean of datasets")
    asked = {"nq": [Question("1", "Where?", ["Vane"], dataset="nq")]}
    config = EvaluateConfig(agent="oracle")
    estimates = {"full": dict.fromkeys(names, group)}
    result = Evaluation(config, asked, estimates, None, "words", 1.0, "here")
    out = io.StringIO()
    show(result, Console(file=out, width=width))
    text = out.getvalue()
    assert "…" not in text
    assert text.count("[0.12–0.38]") == 2 * len(names)
    assert ("too narrow for" in text) == (width < 130)
    assert max(map(len, text.splitlines())) <= width
