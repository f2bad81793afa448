"""What `refine-env evaluate --help` says of agents is what there is."""

from __future__ import annotations

from typing import get_type_hints

from agents.baselines import BASELINES
from agents.factory import MODELS
from agents.scripted import SCRIPTED
from experiments.evaluate_cli import evaluate


def test_every_kind_of_agent_is_named() -> None:
    hints = get_type_hints(evaluate, include_extras=True)
    told = hints["agent"].__metadata__[0].help
    names = [*SCRIPTED, *(f"{name}:" for name in MODELS), *(f"{name}+" for name in BASELINES)]
    assert [name for name in names if name not in told] == []
