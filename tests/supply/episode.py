"""A whole episode, in whatever installation runs this file: `python episode.py FORBIDDEN_FOLDER`.

It fails when the packages come from the folder, such as that of the sources.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym

import agents
import experiments
import refine_env

for package in (agents, experiments, refine_env):
    home = Path(package.__file__ or "")
    assert Path(sys.argv[1]).resolve() not in home.resolve().parents, f"{home} is the sources'"

env = gym.make("AutoRefine-MiniWiki-v0", reveal_answers=True, render_mode="ansi")
observation, info = env.reset(seed=0)
question = observation.splitlines()[-1]
observation, reward, terminated, truncated, info = env.step("<search> Oakham Field </search>")
assert observation.strip().startswith("<documents>Doc 1(Title: Oakham Field)"), observation
observation, reward, terminated, truncated, info = env.step(
    "<refine> Oakham Field is in South Glenholm. </refine> <answer> pottery </answer>"
)
assert (reward, terminated, truncated) == (1.0, True, False), (question, reward, info)
assert env.render()
print(f"{question} Reward {reward} from {Path(refine_env.__file__).parent}")
