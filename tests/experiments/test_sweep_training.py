"""A sweep with the trainer itself."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agents.tracking import read_about
from experiments.sweeping.local import LocalSweep
from experiments.sweeping.progress import SweepProgress
from experiments.sweeping.results import of_folders
from experiments.sweeping.sweep_file import read_sweep


def test_a_shipped_sweep_trains_here(random_policy: Path, tmp_path: Path) -> None:
    """One run of the real command; what is small about it stands in the overrides."""
    overrides = [
        *(f"policy={random_policy}", "wandb=disabled", "held_out_questions=4"),
        *("env_options.max_turns=2", "grpo.steps=1", "grpo.questions_per_step=2"),
        *("grpo.rollouts_per_question=2", "grpo.micro_batch=4", "grpo.turn_tokens=8"),
        "grpo.completion_tokens=100",
    ]
    sweep = read_sweep(Path("learning-rate-kl"))
    with SweepProgress(Console(quiet=True), sweep.metric, sweep.maximize) as progress:
        assert LocalSweep(sweep, tmp_path, overrides=overrides, runs=1).run(progress)
    (row,) = of_folders([tmp_path]).rows
    assert row.state == "finished", (tmp_path / "001" / "console.log").read_text()
    assert read_about(tmp_path / "001")["status"] == "finished"
    assert row.value is not None
    (same,) = of_folders([tmp_path / "001"]).rows
    assert (same.value, same.best) == (row.value, row.best)
    assert same.parameters.items() >= dict(row.parameters).items()
