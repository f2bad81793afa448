"""Episodes of one or two runs as one page that needs no server and no network."""

from __future__ import annotations

import gzip
import json
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.inputs import InputError, extra, input_errors
from experiments.viewer.encode import Count, Encoder, Run, count_words
from experiments.viewer.page import build_page
from refine_env.files import write_whole
from refine_env.rewards import get as get_reward
from refine_env.serialization import find_episodes, load_entries

PAGE = "view.html"
"""The page's name in a run's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewConfig:
    """What is shown, and where the page is written."""

    runs: Sequence[Path]
    """Folders of evaluations or files of episodes: one, or two side by side."""
    output: Path | None = None
    """None: `view.html` in the first run's folder, or beside its file."""
    reward: str | None = None
    """The preset that rewards are worked out by; None: the run's own, else `autorefine`."""
    tokenizer: Path | None = None
    """A `tokenizer.json` (also packed) to count tokens with; None counts words."""
    open: bool = False
    """Open the page in a browser."""


def run(config: ViewConfig, console: Console | None = None) -> Path:
    """Write the page and return where it is. Raises `InputError` for what cannot be shown."""
    console = console or Console()
    started = time.perf_counter()
    output = config.output or default_output(config.runs[0])
    count, unit = (count_words, "words") if config.tokenizer is None else counter(config.tokenizer)
    with input_errors(), console.status("Reading episodes ..."):
        names = _names(config.runs)
        encoder = Encoder(f"{' and '.join(names)}: episodes", count, unit)
        for path, name in zip(config.runs, names, strict=True):
            encoder.add(open_run(path, name, config.reward))
        data = encoder.data()
        if not data["rows"]:
            raise InputError(f"{config.runs[0]} holds no finished episode yet")
        page = build_page(data)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, page)
    episodes = sum(column["count"] for column in data["runs"])
    size, seconds = len(page.encode()) / 1e6, time.perf_counter() - started
    plural = "" if episodes == 1 else "s"
    console.print(f"{episodes:,} episode{plural}, {size:.1f} MB, {seconds:.1f} s", highlight=False)
    console.print(output, soft_wrap=True, markup=False, highlight=False)
    if config.open:
        webbrowser.open(output.resolve().as_uri())
    return output


def default_output(run: Path) -> Path:
    """Where the page of a run is written: inside its folder, or beside its file."""
    if run.is_dir():
        return run / PAGE
    return run.with_name(f"{run.name.removesuffix('.gz').removesuffix('.jsonl')}.html")


def open_run(path: Path, name: str, reward: str | None = None) -> Run:
    """A run's episodes with what its folder says about it."""
    file = find_episodes(path)
    settings = _settings(file.parent) if path.is_dir() else {}
    preset = reward or settings.get("reward") or "autorefine"
    shown = ("agent", "env", "envs", "split", "retriever", "top_k", "max_turns", "protocol")
    details = [f"{key} {settings[key]}" for key in shown if settings.get(key) not in (None, "")]
    details.append(str(file))
    return Run(name, load_entries(file), get_reward(preset), str(preset), "; ".join(details))


def counter(path: Path) -> tuple[Count, str]:
    """What counts tokens, by the tokenizer file at `path`."""
    with extra("train"):
        from tokenizers import Tokenizer
    try:
        text = path.read_bytes()
        tokenizer = Tokenizer.from_buffer(gzip.decompress(text) if path.suffix == ".gz" else text)
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"{path} is no tokenizer.json that can be read: {error}") from error

    def count(text: str) -> int:
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return len(tokenizer.encode(clean, add_special_tokens=False).ids)

    return count, "tokens"


def _settings(folder: Path) -> dict[str, Any]:
    """The settings of an evaluation, {} where the folder has none."""
    for name, key in (("config.json", ""), ("results.json", "config")):
        file = folder / name
        if file.is_file():
            data = json.loads(file.read_text(encoding="utf-8"))
            data = data.get(key, {}) if key else data
            return data if isinstance(data, dict) else {}
    return {}


def _names(runs: Sequence[Path]) -> list[str]:
    """Short names that differ: the last part, or the whole paths."""
    names = [path.resolve().name for path in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in runs]
