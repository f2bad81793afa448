"""Means over seeds and differences that are paired by seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments.curves import curve_with_band, repeated_curve, running_mean
from experiments.evaluation.over_seeds import over_seeds, t_quantile, with_interval
from experiments.run_report.groups import Group
from experiments.run_report.runs import TrainingRun
from experiments.run_report.seeds import by_seed, differences, estimates


def a_run(seed: int | None, reward: float | None) -> TrainingRun:
    return TrainingRun(
        folder=Path(),
        name=f"{seed}: {reward}",
        facts={},
        status="finished",
        settings=None if seed is None else {"grpo": {"seed": seed}},
        rows=[] if reward is None else [{"step": 1, "held_out/reward": reward}],
        best=None,
        notes=(),
    )


def group(name: str, *runs: tuple[int | None, float | None]) -> Group:
    return Group(name, {}, tuple(a_run(*run) for run in runs))


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (200, 1.9719)],
)
def test_the_quantiles_of_students_t_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert t_quantile(freedom) == pytest.approx(value, abs=5e-5)


def test_one_seed_has_no_interval() -> None:
    found = over_seeds([0.5])
    assert (found.mean, found.low, found.high, found.n) == (0.5, None, None, 1)
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_an_interval_over_three_seeds() -> None:
    found = over_seeds([0.1, 0.2, 0.3])  # standard deviation 0.1
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.2 - 0.24841, 0.2 + 0.24841), abs=1e-4)


def test_a_mean_is_written_with_its_interval_where_there_is_one() -> None:
    assert with_interval(0.5, 0.25, 0.75) == "0.500 [0.250, 0.750]"
    assert with_interval(0.5, -0.25, 0.75, sign="+", digits=2) == "+0.50 [-0.25, +0.75]"
    assert with_interval(0.5, None, None, sign="+") == "+0.500"


def test_runs_of_one_seed_count_once_and_unknown_seeds_are_never_shared() -> None:
    one = group("one", (0, 0.2), (0, 0.4), (1, 0.5), (None, 0.9), (2, None))
    assert list(by_seed(one, "held_out/reward").values()) == pytest.approx([0.3, 0.5, 0.9])
    assert estimates(one)["held_out/reward"].n == 3
    (found,) = differences([one, group("other", (None, 0.1), (1, 0.7), (3, 0.0))])
    assert found.seeds == (1,)
    assert found.value.mean == pytest.approx(0.2)
    assert (found.value.low, found.p) == (None, None)


def test_pairing_takes_out_what_the_seeds_have_in_common() -> None:
    base = [(seed, 0.1 * seed) for seed in range(6)]
    better = [(seed, 0.1 * seed + 0.05 + 0.001 * (seed % 2)) for seed in range(6)]
    (found,) = differences([group("base", *base), group("better", *better)])
    assert found.value.low is not None
    assert 0.049 < found.value.low < found.value.mean < 0.053
    assert found.p == 2 / 2**6


def test_groups_without_a_common_seed_are_not_paired() -> None:
    (found,) = differences([group("a", (0, 0.1), (1, 0.3)), group("b", (2, 0.5))])
    assert (found.seeds, found.value.low, found.p) == ((), None, None)
    assert found.value.mean == pytest.approx(0.3)


def test_a_group_without_evaluations_takes_no_part() -> None:
    assert differences([group("a", (0, 0.1)), group("b", (0, None))]) == []


def test_a_repeated_curve_is_a_mean_with_a_band_and_dotted_where_runs_are_missing() -> None:
    axes = Figure().subplots()
    repeated_curve(axes, [[(0, 0.0), (1, 1.0), (2, 4.0), (3, 5.0)], [(0, 2.0), (1, 3.0)]])
    whole, rest = axes.get_lines()
    assert whole.get_xydata().tolist() == [[0, 1], [1, 2]]
    assert rest.get_xydata().tolist() == [[1, 2], [2, 4], [3, 5]]
    assert rest.get_linestyle() == ":"
    assert len(axes.collections) == 1
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == (0, 3)


def test_a_band_has_the_colour_of_its_line_and_stands_where_there_is_a_range() -> None:
    axes = Figure().subplots()
    curve_with_band(axes, [0, 1], [0.5, 0.5], [0.4, 0.5], [0.6, 0.5], color="#00798c")
    assert to_hex(axes.collections[0].get_facecolor()[0]) == "#00798c"
    curve_with_band(axes, [0, 1], [0.2, 0.3], [0.2, 0.3], (0.2, 0.3))  # of one run
    assert (len(axes.get_lines()), len(axes.collections)) == (2, 1)


def test_a_running_mean_keeps_the_steps() -> None:
    points = [(1, 0.0), (2, 3.0), (3, 6.0), (4, 0.0)]
    assert running_mean(points, 1) == points
    assert running_mean(points, 3) == [(1, 1.5), (2, 3.0), (3, 3.0), (4, 3.0)]
