"""The command line of a run: W&B's macros filled in as its agent fills them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.inputs import InputError

_DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_OUTPUT = "output="
_OF_AN_AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")


def filled(
    command: Sequence[Any] | None, program: str | None, parameters: Mapping[str, Any]
) -> list[str]:
    """The words of the command line that W&B's agent makes for the values of a run.

    Raises `InputError` for a macro that it would drop without a word, and for `args_json_file`.
    """
    words: list[str] = []
    macros = _macros(program, parameters)
    for chunk in map(str, command or _DEFAULT):
        text = _VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), chunk)
        if not (text.startswith("${") and text.endswith("}")):
            words.append(text)
        elif text[2:-1] in macros:
            words += macros[text[2:-1]]
        else:
            known = ", ".join(macros)
            raise InputError(f"command: there is no macro {text}; known: {known}, envvar:NAME")
    if not words:
        raise InputError("command: nothing is left of it when its macros are filled in")
    return words


def run_command(
    command: Sequence[Any] | None,
    program: str | None,
    parameters: Mapping[str, Any],
    folder: Path,
    overrides: Sequence[str] = (),
) -> list[str]:
    """The same for a run in a folder of its own: its `output=` names the folder, and overrides of
    the settings come last.

    Raises `InputError` where the command has no `output=`.
    """
    chunks = [str(chunk) for chunk in command or _DEFAULT]
    if not any(chunk.startswith(_OUTPUT) for chunk in chunks):
        raise InputError(
            "command must have a line such as `- output=runs/sweeps/mine/{run}`: every run needs a "
            "folder of its own"
        )
    here = f"{_OUTPUT}{folder}"
    words = filled(
        [here if chunk.startswith(_OUTPUT) else chunk for chunk in chunks], program, parameters
    )
    return [*words, *overrides]


def environment() -> dict[str, str]:
    """The variables of a run: this Python's programs first, one thread unless told otherwise."""
    variables = {name: value for name, value in os.environ.items() if name not in _OF_AN_AGENT}
    programs = str(Path(sys.executable).parent)
    variables["PATH"] = os.pathsep.join(filter(None, (programs, variables.get("PATH"))))
    variables.setdefault("OMP_NUM_THREADS", "1")
    return variables


def _macros(program: str | None, parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    pairs = [f"{name}={value}" for name, value in parameters.items()]
    return {
        "env": [] if os.name == "nt" else ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [program] if program else [],
        "args": [f"--{pair}" for pair in pairs],
        "args_no_hyphens": pairs,
        "args_no_equals": [
            word for name, value in parameters.items() for word in (f"--{name}", str(value))
        ],
        "args_no_boolean_flags": [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in parameters.items()
            if value is not False
        ],
        "args_json": [json.dumps(dict(parameters))],
        "args_append_hydra": [f"+{pair}" for pair in pairs],
        "args_override_hydra": [f"++{pair}" for pair in pairs],
    }
