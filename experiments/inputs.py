"""What people name on the command line: environments and agents, and errors without traceback."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from agents.base import Agent
    from refine_env.env import AutoRefineEnv
    from refine_env.types import Document


class InputError(Exception):
    """Something that was asked for is not there or makes no sense; the message says what to do."""


@contextmanager
def message_alone() -> Iterator[None]:
    """Exit with 2, and the message alone, where the user asked for something wrongly, or the
    disk takes no more."""
    try:
        yield
    except InputError as error:
        print(f"refine-env: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        from refine_env.files import DISK_ERRORS

        if error.errno not in DISK_ERRORS or error.filename is None:
            raise
        print(f"refine-env: {error}. Make room, or name another place", file=sys.stderr)
        sys.exit(2)


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn what constructors raise about their arguments into an `InputError`.

    Put it around building only: an error while running is a fault of the program and keeps its
    traceback.
    """
    import gymnasium

    kinds = (ValueError, TypeError, KeyError, OSError, ImportError, gymnasium.error.Error)
    try:
        yield
    except kinds as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(str(message) or type(error).__name__) from error


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn an import that fails for want of a package into an `InputError` naming the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("refine_env", "agents", "experiments"):
            raise
        raise InputError(
            f"this needs {missing}, which is not installed: pip install 'refine-env[{name}]', "
            f"or from a clone pip install -e '.[{name}]' -c constraints.txt"
        ) from error


ASK_ABOVE = 1_000_000_000
"""Bytes on the disk above which a person is asked."""


def ask_before(size: float, yes: bool, console: Console, refused: str) -> None:
    """Ask whether to go on where `size` is above `ASK_ABOVE` bytes, and `yes` was not given.

    Raises `InputError`: with `refused` where the answer is no, and where nobody is there to ask.
    """
    if size <= ASK_ABOVE or yes:
        return
    try:
        answer = console.input("Go on? \\[y/N] ")
    except EOFError:
        raise InputError("more than 1 GB, and nobody to ask: pass --yes") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError(refused)


def check_agents_package() -> None:
    """Raise `InputError` when `import agents` finds another project's package.

    The package of openai-agents has the same name. Installed side by side one hides the other,
    installed into one folder one overwrites the other.
    """
    try:
        import agents
    except ImportError as error:
        found = f"it cannot be imported ({error})"
    else:
        if getattr(agents, "DISTRIBUTION", "") == "refine-env":
            return
        found = f"{getattr(agents, '__file__', None) or 'another one'} is imported"
    raise InputError(
        f"the Python package 'agents' is not the one of refine-env: {found}. The package "
        "openai-agents has the same import name, and the two cannot stand in one environment. "
        "Remove it and install refine-env again:\n"
        "  pip uninstall openai-agents\n"
        "  pip install --force-reinstall --no-deps <refine-env>\n"
        "or give refine-env a virtual environment of its own."
    )


CUSTOM = "custom"
"""The dataset of people's own files. It has no id: without `--data-dir` it is nothing."""


def environment_id(name: str) -> str:
    """The id of an environment by its id or its dataset's name, such as `hotpotqa`; `custom`."""
    from refine_env.registration import ENVIRONMENTS
    from refine_env.suggestions import did_you_mean

    if name in ENVIRONMENTS or name == CUSTOM:
        return name
    by_dataset = {dataset: env_id for env_id, dataset in ENVIRONMENTS.items()}
    by_lower_case = {env_id.lower(): env_id for env_id in ENVIRONMENTS} | by_dataset
    if name.lower() in by_lower_case:
        return by_lower_case[name.lower()]
    raise InputError(
        f"unknown environment {name!r}"
        + did_you_mean(name, [*ENVIRONMENTS, *by_dataset], before="; ")
        + f"; `refine-env list` shows them, {CUSTOM!r} with a data folder takes files of your own"
    )


def dataset_of(name: str) -> str:
    """The dataset of an environment, which is named as for `environment_id`."""
    from refine_env.registration import ENVIRONMENTS

    env_id = environment_id(name)
    return env_id if env_id == CUSTOM else ENVIRONMENTS[env_id]


def make_environment(name: str, options: Mapping[str, Any]) -> AutoRefineEnv:
    """The environment of a name with the options that are not None."""
    from refine_env.env import AutoRefineEnv

    dataset = dataset_of(name)
    given = {key: value for key, value in options.items() if value is not None}
    with input_errors():
        return AutoRefineEnv(dataset=dataset, **given)


def make_agent(
    spec: str,
    env: AutoRefineEnv,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    batch_size: int = 64,
) -> Agent:
    """The agent of a name, as in `agents.factory.make_agent`, for an environment.

    A local model keeps the caches of `batch_size` episodes, unless the options say otherwise.
    """
    from agents import factory

    options = dict(options or {})
    if factory.is_local(spec):
        options = {"places": batch_size} | options
        with suppress(ImportError):
            from transformers.utils import logging

            logging.disable_progress_bar()  # of loading weights, beside our own
    with input_errors():
        return factory.make_agent(spec, env.components, _documents(env), seed=seed, options=options)


def evaluation_split(env_id: str, data_dir: Path | None = None) -> str:
    """The split to evaluate on where none is named: the first of test, dev, train that is there."""
    from refine_env.datasets.catalog import DEFAULT_MIXTURE
    from refine_env.datasets.folders import find_folder
    from refine_env.datasets.mixing import common_splits

    dataset = dataset_of(env_id)
    if dataset == "miniwiki":
        return "test"
    with input_errors():
        if dataset == "mixed":
            found: Container[str] = common_splits(DEFAULT_MIXTURE, data_dir)
        else:
            found = find_folder(dataset, data_dir).questions
    split = next((split for split in ("test", "dev", "train") if split in found), None)
    if split is None:
        raise InputError(f"no split is there of all of {', '.join(DEFAULT_MIXTURE)}")
    return split


def _documents(env: AutoRefineEnv) -> Iterable[Document]:
    """The corpus of the environment's data, read when it is first iterated."""
    from refine_env.config import open_data

    if env.config.questions is not None:
        return ()
    return open_data(env.config).corpus
