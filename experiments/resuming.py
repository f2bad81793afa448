"""Going on with a training run: from which checkpoint, and whether it is one of this run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.grpo.checkpoints import Checkpoint, checkpoints, newest_whole, set_aside
from experiments.collect import policy_fingerprint
from experiments.evaluation.config import differences, digest
from experiments.inputs import InputError
from experiments.settings_text import HOUSEKEEPING, flat
from experiments.train_config import TrainConfig, load_config
from refine_env.config import Components

EXECUTION = frozenset(
    {
        *HOUSEKEEPING,
        *("held_out_split", "held_out_questions", "held_out_every"),
        *("grpo.steps", "grpo.save_steps", "grpo.keep_checkpoints"),
        *("grpo.micro_batch", "grpo.rows_per_forward", "grpo.places", "grpo.overlap_searches"),
        *("grpo.gradient_checkpointing", "grpo.vllm_mode", "grpo.vllm_memory_share"),
        *("grpo.vllm_tensor_parallel", "grpo.vllm_server_url"),
    }
)
"""Settings that may change when a run goes on: what a step learns does not depend on them."""
_FINGERPRINTED = frozenset(
    {
        *("policy", "env_options.protocol", "env_options.retriever"),
        *("env_options.data_dir", "env_options.files", "env_options.corpus"),
    }
)
"""Settings that name places. What lies there counts, and it may have moved."""
_RESULTS = ("policy", "best", "metrics.jsonl")
"""What a run leaves in its folder beside checkpoints."""


def identity(config: TrainConfig, components: Components) -> dict[str, Any]:
    """What a run depends on, as JSON: the settings, and fingerprints of the policy that it starts
    from (the commit, where it comes from a hub), the questions, the index and the protocol.

    Raises `OSError` where there is no such policy.
    """
    told = flat(config.plain(), depth=1)
    for name in EXECUTION | _FINGERPRINTED:
        told.pop(name, None)
    told["policy"] = policy_fingerprint(config.policy)
    told["questions"] = digest([(q.id, q.text, q.answers) for q in components.questions])
    told["protocol"] = digest(asdict(components.protocol))
    retriever = str(config.env_options.get("retriever"))
    if retriever.startswith(("http://", "https://")):
        retriever = "http"  # a server may have another address each time
    told["index"] = getattr(components.retriever, "index_id", None) or retriever
    plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
    return plain


def starting_point(
    config: TrainConfig, told: Mapping[str, Any], *, restart: bool = False
) -> Checkpoint | None:
    """The checkpoint that training goes on from; None for a start at the beginning.

    Damaged ones that are newer are renamed, with a warning. `restart` removes the checkpoints of a
    run with the same settings, its seed apart. Raises `InputError` where `resume` asks for what is
    not there, where a start would write over another run or over the policy that it starts from,
    and where the checkpoints are those of another run.
    """
    root = config.output / "checkpoints"
    _check_policy_lies_elsewhere(config)
    if restart:
        _check_restart(config)
        shutil.rmtree(root, ignore_errors=True)
        return None
    if not config.resume:
        if checkpoints(root):
            raise InputError(
                f"{config.output} holds the checkpoints of another run: go on with it by "
                "resume=true, or name another folder by output=..."
            )
        _check_nothing_is_lost(config)
        return None
    found, damaged = newest_whole(root)
    if found is None and damaged:
        reasons = "; ".join(f"{folder.name}: {reason}" for folder, reason in damaged.items())
        raise InputError(
            f"every checkpoint in {root} is damaged ({reasons}). Remove them and take resume=auto "
            "to start again"
        )
    if found is None:
        if config.resume == "auto":
            _check_nothing_is_lost(config)
            return None
        raise InputError(
            f"nothing to resume: there is no checkpoint in {root}; resume=auto starts at the "
            "beginning then"
        )
    _check_same_run(config, found, told)
    set_aside(damaged, found.step)
    return found


def _check_same_run(config: TrainConfig, found: Checkpoint, told: Mapping[str, Any]) -> None:
    changed = differences(found.run, told)
    if changed:
        raise InputError(
            f"the checkpoints in {config.output} are those of a run with other settings "
            f"({'; '.join(changed)}). Go on with those, or name another folder by output=..."
        )
    if found.step > config.grpo.steps:
        raise InputError(
            f"{config.output} is at step {found.step} already, grpo.steps is {config.grpo.steps}: "
            "raise grpo.steps, or name another folder by output=..."
        )


def _check_policy_lies_elsewhere(config: TrainConfig) -> None:
    policy = Path(config.policy_path)  # or a name on a hub
    if policy.is_dir() and policy.resolve().is_relative_to(config.output.resolve()):
        raise InputError(
            f"{config.output} holds the policy that training starts from ({config.policy}), and "
            "training would write over what lies beside it: name another folder by output=..."
        )


def _check_nothing_is_lost(config: TrainConfig) -> None:
    """Raise `InputError` where there are results without checkpoints, but for those of this very
    run, killed before its first checkpoint, when it is resumed.
    """
    found = [name for name in _RESULTS if (config.output / name).exists()]
    if not found:
        return
    same = not _other_settings(config, EXECUTION | _FINGERPRINTED - {"policy"})
    if config.resume and same and "policy" not in found:
        return
    again = "start again by resume=auto, " if same and "policy" not in found else ""
    raise InputError(
        f"{config.output} holds {', '.join(found)} of an earlier run, and no checkpoint to go on "
        f"from. Nothing is written over: {again}name another folder by output=..., or remove them"
    )


def _check_restart(config: TrainConfig) -> None:
    found = [name for name in ("checkpoints", *_RESULTS) if (config.output / name).exists()]
    changed = _other_settings(config, {"output", "grpo.seed"}) if found else []
    if changed:
        raise InputError(
            f"{config.output} holds {', '.join(found)} of another run ({'; '.join(changed)}), "
            "which are not written over: name another folder"
        )


def _other_settings(config: TrainConfig, but: Set[str]) -> list[str]:
    """How the settings of the run that lies in the folder differ from these, leaving some out."""
    try:
        there = load_config(config.output / "config.yaml")
    except InputError:
        return ["its config.yaml is not there or not that of a training run"]
    one, other = (
        {name: value for name, value in flat(settings.plain(), depth=1).items() if name not in but}
        for settings in (there, config)
    )
    return differences(
        json.loads(json.dumps(one, default=str)), json.loads(json.dumps(other, default=str))
    )
