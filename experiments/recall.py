"""What search engines find for the questions of datasets: recall at ranks, with intervals.

The query is the question itself. Where a dataset says which passages support its questions, recall
is the mean share of them among the first k results. Where it does not, it is the share of questions
with a gold answer in title or text of one of the first k; yes and no, which stand in nearly every
passage, are left out there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.inputs import InputError, dataset_of, input_errors
from refine_env.datasets import open_dataset
from refine_env.datasets.answerability import RANKS, answer_rank, is_closed
from refine_env.datasets.catalog import MINIWIKI, MIXED, SPLITS
from refine_env.datasets.folders import find_folder
from refine_env.datasets.opening import OpenDataset
from refine_env.files import write_whole
from refine_env.metrics import Estimate, bootstrap_mean
from refine_env.registration import ENVIRONMENTS
from refine_env.retrieval import Retriever, RetrieverError, make_retriever
from refine_env.retrieval.base import search_documents
from refine_env.retrieval.factory import ENGINES
from refine_env.retrieval.hybrid import split_names
from refine_env.scoring import normalize_answer
from refine_env.types import Document, Question

PASSAGES, ANSWERS = "gold passages", "answer string"
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallConfig:
    """Which questions are searched with what."""

    datasets: tuple[str, ...] = ()
    """Datasets' names; none takes all seven."""
    retrievers: tuple[str, ...] = ("bm25",)
    """Search engines' names; `{dataset}` in one stands for the dataset's name."""
    data_root: Path | None = None
    """Folder with a folder for every dataset; None takes $REFINE_ENV_DATA or the cache."""
    output: Path = Path("runs/recall/recall.json")


@dataclass(frozen=True, slots=True)
class Recall:
    """One engine on the questions of one dataset."""

    dataset: str
    retriever: str
    measure: str
    """`PASSAGES` or `ANSWERS`."""
    passages: int
    """Of the corpus."""
    left_out: int
    """Questions without what the measure looks for."""
    at: dict[int, Estimate]
    """Rank -> recall, with a bootstrap 95 % interval over the questions."""


def run(config: RecallConfig, console: Console | None = None) -> list[Recall]:
    """Search, print the table, write the file. Raises `InputError`."""
    console = console or Console()
    names = config.datasets or tuple(
        name for name in ENVIRONMENTS.values() if name not in (MINIWIKI, MIXED)
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rows: list[Recall] = []
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        for name in names:
            dataset = dataset_of(name)
            with input_errors():
                parts = _open(dataset, config.data_root)
            for spec in config.retrievers:
                task = progress.add_task(f"{dataset}, {engine_name(spec)}", total=_count(parts))
                rows.append(_measure(parts, spec, partial(progress.advance, task)))
    _print(rows, console)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    data = {"config": asdict(config), "rows": [asdict(row) for row in rows]}
    write_whole(config.output, json.dumps(data, indent=1, default=str) + "\n")
    markdown = config.output.with_suffix(".md")
    write_whole(markdown, to_markdown(rows))
    console.print(f"Written to {config.output} and {markdown}", soft_wrap=True)
    return rows


def _open(dataset: str, root: Path | None) -> list[OpenDataset]:
    """All splits of a dataset; they share a corpus."""
    if dataset in (MINIWIKI, MIXED):
        raise InputError(f"recall is about datasets with a folder of their own, not {dataset}")
    folder = None if root is None else root / dataset
    there = find_folder(dataset, folder).questions
    return [open_dataset(dataset, name, data_dir=folder) for name in SPLITS if name in there]


def _count(parts: Sequence[OpenDataset]) -> int:
    return sum(len(part.questions) for part in parts)


def _measure(parts: Sequence[OpenDataset], spec: str, on_questions: Callable[[int], Any]) -> Recall:
    asked = [question for part in parts for question in part.questions]
    measure = PASSAGES if any(question.supporting_ids for question in asked) else ANSWERS
    questions = [question for question in asked if _is_measured(question, measure)]
    with input_errors():
        name = spec.replace("{dataset}", parts[0].dataset)
        retriever = make_retriever(name, corpus=parts[0].corpus)
    share = _share_of_passages if measure == PASSAGES else _has_answer
    try:
        found = _search(retriever, questions, on_questions)
    except RetrieverError as error:
        raise InputError(f"{name} failed: {error}") from error
    at = {
        k: bootstrap_mean([share(q, row[:k]) for q, row in zip(questions, found, strict=True)])
        for k in RANKS
    }
    left_out = len(asked) - len(questions)
    return Recall(parts[0].dataset, spec, measure, len(parts[0].corpus), left_out, at)


def _is_measured(question: Question, measure: str) -> bool:
    if measure == PASSAGES:
        return bool(question.supporting_ids)
    return not is_closed(question.answers) and any(map(normalize_answer, question.answers))


def _search(
    retriever: Retriever, questions: Sequence[Question], on_questions: Callable[[int], Any]
) -> list[tuple[Document, ...]]:
    found: list[tuple[Document, ...]] = []
    for start in range(0, len(questions), _BATCH):
        batch = [question.text for question in questions[start : start + _BATCH]]
        found += search_documents(retriever, batch, max(RANKS))
        on_questions(len(batch))
    return found


def _share_of_passages(question: Question, documents: Sequence[Document]) -> float:
    gold = set(question.supporting_ids)
    return len(gold & {document.id for document in documents}) / len(gold)


def _has_answer(question: Question, documents: Sequence[Document]) -> float:
    return float(answer_rank(documents, question.answers) is not None)


HEADER = ["dataset", "passages", "measure", "n", "retriever", *(f"at {k}" for k in RANKS)]


def table_rows(rows: Sequence[Recall]) -> list[list[str]]:
    """A line for every row; recall in percent, its interval in brackets."""
    return [
        [
            row.dataset,
            f"{row.passages:,}",
            row.measure,
            f"{row.at[1].n:,}",
            engine_name(row.retriever),
            *(_percent(row.at[k]) for k in RANKS),
        ]
        for row in rows
    ]


def engine_name(spec: str) -> str:
    """A retriever's name without folders: `bm25`, `bm25 + dense`."""
    name, _, rest = spec.partition(":")
    if name == "hybrid":
        return " + ".join(map(engine_name, split_names(rest, tuple(ENGINES))))
    return engine_name(rest) if name == "cached" else name


def _percent(estimate: Estimate) -> str:
    mean, low, high = (100 * x for x in (estimate.mean, estimate.low, estimate.high))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def to_markdown(rows: Sequence[Recall]) -> str:
    """The table as Markdown."""
    lines = [HEADER, ["---"] * 3 + ["---:"] + ["---"] + ["---:"] * len(RANKS), *table_rows(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _print(rows: Sequence[Recall], console: Console) -> None:
    """A table for each dataset, narrow enough for a terminal, with half intervals."""
    for _, group in groupby(rows, key=lambda row: row.dataset):
        same = list(group)
        table = Table(
            title=_about(same[0]), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        table.add_column("retriever")
        for rank in RANKS:
            table.add_column(f"at {rank}", justify="right", no_wrap=True)
        for row in same:
            halves = ((e.mean, (e.high - e.low) / 2) for e in map(row.at.__getitem__, RANKS))
            cells = (f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in halves)
            table.add_row(engine_name(row.retriever), *cells)
        console.print(table)
    console.print("percent; ± half of the bootstrap 95 % interval over the questions")


def _about(row: Recall) -> str:
    left_out = f", {row.left_out:,} left out" if row.left_out else ""
    return f"{row.dataset}: {row.measure}, {row.at[1].n:,} questions{left_out}"
