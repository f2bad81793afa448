"""The settings of a training run: a YAML file and key=value overrides -> `TrainConfig`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from agents.factory import model_folder, protocol_of
from agents.grpo import GRPOSettings
from agents.wandb_runs import WandbChoice
from experiments.inputs import InputError, dataset_of, input_errors
from refine_env.config import Components, EnvConfig, build
from refine_env.suggestions import nearest

if TYPE_CHECKING:
    from agents.held_out import HeldOut

CONFIGS = Path(__file__).parent / "configs"
ACCELERATE = CONFIGS / "accelerate"
"""Configurations for `accelerate launch`."""
_KINDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    dict: "a section of settings",
    type(Path()): "a path",
}
_RUN = "{run}"
_WORDS = {"resume": "auto"}
"""What a setting may be besides a value of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run."""

    env: str = "AutoRefine-MiniWiki-v0"
    """Id of the environment, or its dataset's name."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment, as in `refine_env.config.EnvConfig`."""
    policy: str = "tiny"
    """Folder or hub name of the policy to start from; `tiny` is the one that ships with this. A
    `protocol.toml` in the folder is the protocol, unless `env_options` names another."""
    output: Path = Path("runs/train")
    """Folder for checkpoints, metrics, transcripts and the trained policy. `{run}` in it is the id
    that W&B's agent gives to a run of a sweep (`WANDB_RUN_ID`)."""
    train_split: str = "train"
    held_out_split: str = "dev"
    """Split of the questions for evaluation on the way; not the test split."""
    held_out_questions: int = 200
    held_out_every: int = 10
    """Optimiser steps between two greedy evaluations."""
    wandb: WandbChoice = "auto"
    """`auto`: online for a user who is logged in, else offline; `WANDB_MODE` says otherwise."""
    project: str = "refine-env"
    """W&B project."""
    resume: bool | Literal["auto"] = False
    """Go on from the newest checkpoint in `output`. `auto`: where there is one, else start."""
    grpo: GRPOSettings = field(default_factory=GRPOSettings)

    def __post_init__(self) -> None:
        for name in ("held_out_questions", "held_out_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.held_out_split == "test":
            raise ValueError(
                "held_out_split must not be test: the best policy is chosen by it, and the test "
                "split's score would flatter that policy. Take dev, or train where there is none"
            )
        if self.wandb not in get_args(WandbChoice):
            choices = ", ".join(get_args(WandbChoice))
            raise ValueError(f"wandb must be one of {choices}, got {self.wandb!r}")

    @property
    def policy_path(self) -> str:
        return model_folder(self.policy)

    @property
    def protocol_file(self) -> Path | None:
        """The protocol that a policy's folder brings along; few do."""
        return protocol_of(f"hf:{self.policy}")

    def components(self, split: str) -> Components:
        """The environment's parts on a split, with the policy's own protocol if it has one."""
        options = dict(self.env_options)
        if self.protocol_file:
            options.setdefault("protocol", str(self.protocol_file))
        dataset = dataset_of(self.env)
        return build(EnvConfig.from_options({**options, "dataset": dataset, "split": split}))

    def plain(self) -> dict[str, Any]:
        """The settings as a YAML file holds them."""
        return asdict(self) | {"output": str(self.output), "env_options": dict(self.env_options)}

    def held_out(self, split: str, count: int) -> HeldOut:
        """`count` questions of a split, run as in training."""
        from agents.held_out import HeldOut, choose

        components = self.components(split)
        limits = self.grpo.token_limits()
        questions = choose(components.questions, count, seed=0)
        return HeldOut(components, questions, limits, self.grpo.places, self.grpo.seed)


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config of a YAML file (defaults without one), changed by `key=value` overrides.

    A file may name another as its `base`, by path or as a shipped one, and holds what differs from
    it. A key of `grpo` or `env_options` is written `grpo.steps=10`. Raises `InputError` for a
    missing file, an unknown key (with the nearest valid one) and a value of the wrong kind.
    """
    settings = {} if path is None else _file_settings(path)
    for override in overrides:
        _override(settings, override)
    for name in ("grpo", "env_options"):
        if settings.get(name) is None:  # a section whose lines are all commented out
            settings.pop(name, None)
    grpo = _typed(GRPOSettings, settings.pop("grpo", {}), "grpo.")
    config = replace(_typed(TrainConfig, settings, ""), grpo=grpo)
    return replace(config, output=_of_this_run(config.output))


def _of_this_run(output: Path) -> Path:
    """The folder with `{run}` in it filled in."""
    if _RUN not in str(output):
        return output
    run_id = os.environ.get("WANDB_RUN_ID")
    if not run_id:
        raise InputError(
            f"output={output} has a folder for each run of a sweep, and WANDB_RUN_ID, which "
            "`wandb agent` sets, is not there: name a folder without {run}"
        )
    return Path(str(output).replace(_RUN, run_id))


def _file_settings(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a file, over those of the file that its `base` names."""
    shipped = CONFIGS / f"{path}.yaml"
    path = path if path.is_file() or not shipped.is_file() else shipped
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise InputError(f"no configuration at {path}; shipped ones: {names}")
    if path.resolve() in above:
        raise InputError(f"{path} is its own base")
    loaded = _yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(loaded, dict):
        raise InputError(f"{path} must hold settings, one `key: value` a line")
    base = loaded.pop("base", None)
    if base is None:
        return loaded
    beside = path.parent / str(base)
    below = beside if beside.is_file() else Path(str(base))
    settings = _file_settings(below, (*above, path.resolve()))
    for key, value in loaded.items():
        both = isinstance(value, dict) and isinstance(settings.get(key), dict)
        settings[key] = settings[key] | value if both else value
    return settings


def _override(settings: dict[str, Any], override: str) -> None:
    """Enter `key=value`. The value is YAML, but names and paths are taken as they are written."""
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"{override!r} is not of the form key=value")
    section = settings
    *outer, last = key.split(".")
    for name in outer:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            raise InputError(f"{override!r}: {name} has no settings of its own")
    is_text = not outer and isinstance(getattr(TrainConfig(), key, None), str | Path)
    section[last] = text if is_text else _yaml(text, repr(override))


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {error}") from error


def _typed(kind: type, values: Any, prefix: str) -> Any:
    """An instance of a settings dataclass; numbers in YAML's `1e-3` form are strings there."""
    if not isinstance(values, dict):
        raise InputError(f"{prefix[:-1]} must hold settings, one `key: value` a line")
    defaults = kind()
    known = {item.name: getattr(defaults, item.name) for item in fields(kind)}
    converted = {}
    for key, value in values.items():
        if key not in known:
            near = nearest(str(key), known)
            advice = f"did you mean {prefix + near!r}?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown setting '{prefix}{key}'; {advice}")
        converted[key] = _converted(prefix + key, value, known[key])
    with input_errors():
        return kind(**converted)


def _converted(key: str, value: Any, default: Any) -> Any:
    wanted: type = type(default)
    word = _WORDS.get(key)
    if word is not None and value == word:
        return value
    if isinstance(default, Path) and isinstance(value, str | Path):
        return Path(value)
    if isinstance(default, float) and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool):
        return value
    kinds = _KINDS[wanted] if word is None else f"{_KINDS[wanted]} or {word}"
    raise InputError(f"{key} must be {kinds}, got {value!r}")
