"""The paper's tables and figures: what is compared, how it is judged, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.inputs import InputError
from experiments.reproduce import ReproduceConfig
from experiments.reproduction.arms import ARMS, AS_TRAINED, CONDITIONS, Run
from experiments.reproduction.parts.base import paper
from experiments.reproduction.registry import PARTS
from experiments.reproduction.results import Results
from experiments.reproduction.runs import Place, train_config
from experiments.reproduction.scales import FULL, MINI, SCALES
from experiments.reproduction.schedule import missing
from experiments.reproduction.statistics import (
    difference_of,
    difference_of_gains,
    mean_of,
    no_worse_verdict,
    verdict_of,
)
from experiments.reproduction.writing import NOTES, write_part, write_report
from refine_env.rewards import get
from tests.experiments import made_runs

MADE = [name for name in PARTS if name != "reward-hacking"]  # that one runs agents, too


def better_autorefine(arm: str, condition: str, hops: int, metric: str) -> float:
    """AutoRefine is ahead of all others, most so on many hops; training helps."""
    if condition == "before":
        return 0.1
    bonus = 0.15 * hops if arm == "autorefine" and metric != "tokens/refine" else 0.0
    return 0.3 + bonus


def test_the_parts_name_arms_and_conditions_that_there_are() -> None:
    for part in PARTS.values():
        assert part.arms
        for arm, conditions in part.arms.items():
            assert arm in ARMS
            assert conditions[0] == AS_TRAINED
            assert all(CONDITIONS[condition.name] == condition for condition in conditions)


def test_compared_arms_differ_in_what_is_compared_alone() -> None:
    full, without_reward, without_refine = (ARMS[a] for a in ("autorefine", "f1", "no_refine"))
    assert without_reward.demonstrator == full.demonstrator
    assert without_reward.reward == without_refine.reward == "f1"
    assert without_refine.demonstrator == ARMS["search_r1"].demonstrator
    for arm in ARMS.values():
        get(arm.reward)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_settings_at_both_scales(scale: object, arm: str, tmp_path: Path) -> None:
    config = train_config(Place(scale, tmp_path), Run(arm, 3))  # type: ignore[arg-type]
    assert config.grpo.seed == 3
    assert config.env_options["reward"] == ARMS[arm].reward
    if scale is FULL:
        assert config.policy == FULL.policies[ARMS[arm].size]
        assert config.env_options["protocol"] == ARMS[arm].demonstrator.protocol
    else:
        assert f"{ARMS[arm].demonstrator.name}" in config.policy
        assert config.env_options["hops"] == [1, 2, 3]


def test_the_budget_of_training_is_the_same_for_all(tmp_path: Path) -> None:
    settings = {
        tuple(sorted(train_config(Place(MINI, tmp_path), Run(arm, 0)).plain()["grpo"].items()))
        for arm in ARMS
    }
    assert len(settings) == 1


def test_the_paper_s_rows_fit_their_columns() -> None:
    for table in paper().values():
        for row in table.get("rows", {}).values():
            assert len(row) == len(table.get("columns", table.get("k", row)))
    average = paper()["main"]["rows"]["autorefine"]
    assert sum(average[:-1]) / 7 == pytest.approx(average[-1], abs=0.001)


def test_means_and_intervals_are_over_seeds() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    mean = mean_of(scores)
    assert (mean.mean, mean.seeds, mean.questions) == (0.5, 3, 2)
    assert mean.by_seed == (0.5, 1.0, 0.0)
    half = 4.302653 * 0.5 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (mean.low, mean.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)
    assert mean_of(scores[:1]).low is None


def test_questions_without_a_value_are_left_out() -> None:
    assert mean_of(np.array([[np.nan, 1.0], [0.0, np.nan]])).by_seed == (1.0, 0.0)
    with pytest.raises(ValueError, match="without a score"):
        mean_of(np.array([[np.nan], [1.0]]))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(0.8, 0.4, "shown"), (0.4, 0.8, "opposite"), (0.6, 0.6, "not shown")],
)
def test_a_verdict_needs_seeds_and_questions_to_agree(
    first: float, second: float, verdict: str
) -> None:
    rng = np.random.default_rng(0)
    one, other = ((rng.random((5, 200)) < mean).astype(float) for mean in (first, second))
    difference = difference_of(one, other)
    assert verdict_of(difference) == verdict
    assert verdict_of(difference, -1) == {"shown": "opposite", "opposite": "shown"}.get(
        verdict, verdict
    )
    assert difference.p_seeds >= 2 / 2**5


def test_a_single_seed_shows_nothing() -> None:
    assert verdict_of(difference_of(np.ones((1, 50)), np.zeros((1, 50)))) == "not shown"


def test_nothing_lost_means_an_interval_above_the_margin() -> None:
    base = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    assert no_worse_verdict(difference_of(base, base), 0.05) == "shown"
    assert no_worse_verdict(difference_of(base - 0.5, base), 0.05) == "opposite"
    noisy = base + np.array([[0.3], [-0.3], [0.0]])
    assert no_worse_verdict(difference_of(noisy, base), 0.05) == "not shown"


def test_gains_on_two_sets_of_questions_are_compared_by_seed() -> None:
    gain = np.full((3, 4), 0.5)
    nothing = np.zeros((3, 4))
    difference = difference_of_gains((gain, nothing), (np.full((3, 2), 0.2), np.zeros((3, 2))))
    assert difference.mean == pytest.approx(0.3)
    assert difference.p_questions is None


def test_scores_of_different_questions_are_not_paired(tmp_path: Path) -> None:
    place = made_runs.make(tmp_path, PARTS["ablation"], 2, better_autorefine)
    path = place.tested(Run("f1", 1), AS_TRAINED) / "scores.json"
    columns = json.loads(path.read_text())
    columns["id"][0] = "another"
    path.write_text(json.dumps(columns))
    with pytest.raises(InputError, match="seeds of f1 were tested on different questions"):
        Results(place, (0, 1)).mean("f1", "em")


@pytest.mark.parametrize("name", MADE)
def test_a_part_is_written_from_its_runs(name: str, tmp_path: Path) -> None:
    place = made_runs.make(tmp_path / "runs", PARTS[name], 3, better_autorefine)
    folder = tmp_path / "report" / name
    folder.mkdir(parents=True)
    (folder / NOTES).write_text("Written by hand.\n")
    findings = write_part(PARTS[name], Results(place, (0, 1, 2)), folder)
    assert findings.tables
    told = json.loads((folder / "data.json").read_text())
    assert told["seeds"] == [0, 1, 2]
    assert told["questions"] == made_runs.QUESTIONS
    assert told["commits"] == ["abc"]
    assert set(told["settings"]) == set(PARTS[name].arms)
    section = (folder / "section.md").read_text()
    assert section.startswith(f"# {PARTS[name].title}\n")
    assert "Written by hand." in section
    assert f"refine-env reproduce {name} --scale mini --seeds 3" in section
    assert (folder / "figure.png").stat().st_size > 5000
    assert (folder / "figure.svg").is_file()


def test_planted_effects_are_found_and_their_absence_too(tmp_path: Path) -> None:
    place = made_runs.make(tmp_path, PARTS["main"], 4, better_autorefine)
    verdicts = {
        claim.text: claim.verdict
        for claim in PARTS["main"].find(Results(place, (0, 1, 2, 3))).claims
    }
    assert verdicts["AutoRefine answers more questions than Search-R1"] == "shown"
    assert verdicts["The gain over Search-R1 is larger on multi-hop questions"] == "shown"
    assert verdicts["Search-R1 answers more than single retrieval"] == "not shown"


def test_the_report_merges_the_parts_that_are_there(tmp_path: Path) -> None:
    for name in ("main", "depth"):
        place = made_runs.make(tmp_path / "runs", PARTS[name], 2, better_autorefine)
        write_part(PARTS[name], Results(place, (0, 1)), tmp_path / "report" / name)
    assert write_report(tmp_path / "report", "A title") == ["main", "depth"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("## Claims") < text.index("## Main table") < text.index("## Retrieval depth")
    assert "(main/figure.png)" in text
    html = (tmp_path / "report" / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2


def test_a_part_without_its_runs_says_which_are_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="autorefine, seed 0 has not been tested"):
        PARTS["main"].find(Results(Place(MINI, tmp_path), (0,)))


def test_what_is_missing_comes_in_stages_and_what_is_there_is_left_alone(tmp_path: Path) -> None:
    place = Place(MINI, tmp_path)
    wanted = PARTS["refinement"].wanted(MINI, (0, 1))
    bases, starts, runs = missing(place, wanted)
    assert [len(bases), len(starts), len(runs)] == [1, 4, 4]
    made_runs.make(tmp_path, PARTS["refinement"], 1, better_autorefine)
    (place.tested(Run("autorefine", 0), CONDITIONS["dropped"]) / "scores.json").unlink()
    bases, starts, runs = missing(place, wanted)
    assert [len(bases), len(starts), len(runs)] == [1, 2, 3]
    assert [condition.name for condition in runs[0].conditions] == ["dropped"]


@pytest.mark.parametrize("name", ["ablation", "refinement"])
def test_arms_that_differ_in_the_warm_start_alone_are_not_trained_without_one(
    name: str, tmp_path: Path
) -> None:
    place = made_runs.make(tmp_path, PARTS[name], 2, better_autorefine, FULL)
    controls = {"thoughts", "dropping"}
    assert not controls & {run.arm for run in PARTS[name].wanted(FULL, (0, 1))}
    assert controls & set(PARTS[name].arms)
    write_part(PARTS[name], Results(place, (0, 1)), tmp_path / "part")
    section = (tmp_path / "part" / "section.md").read_text()
    assert not any(ARMS[arm].title in section for arm in controls)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mian"], "there is no part 'mian'; did you mean 'main'?"),
        (["main", "--scale", "huge"], "there is no scale 'huge'; known: mini, full"),
        (["main", "--seeds", "0"], "--seeds must be at least 1"),
        (["main", "--workers", "0"], "--workers must be at least 1"),
        (["main", "--launch", "torchrun"], "--launch is for full scale"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["reproduce", *arguments])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_a_dry_run_lists_the_work_and_does_none(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["reproduce", "refinement", "--seeds", "1", "--dry-run", "--runs", str(tmp_path / "r")]
    )
    assert result.exit_code == 0, result.output
    assert "run autorefine, seed 0: train, test (as-trained, before, dropped)" in result.output
    assert "5 pieces of work" in result.output
    assert not (tmp_path / "r").exists()


def test_the_help_names_every_part() -> None:
    result = CliRunner().invoke(app, ["reproduce", "--help"], env={"COLUMNS": "200"})
    words = result.output.replace("\n", " ")
    assert all(name in words for name in PARTS)


def test_another_launcher_can_be_named() -> None:
    config = ReproduceConfig(parts=("main",), scale="full", launch="accelerate launch --cpu")
    assert config.place.scale.launch == ("accelerate", "launch", "--cpu")
    assert ReproduceConfig(parts=("main",), scale="full").place.scale.launch[1:3] == (
        "-m",
        "torch.distributed.run",
    )


def test_all_stands_for_every_part() -> None:
    assert ReproduceConfig(parts=("all",)).names == tuple(PARTS)
