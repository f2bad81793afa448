"""How many questions of a dataset can be answered from its corpus: a table and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.inputs import InputError, dataset_of, input_errors
from refine_env.config import EnvConfig, open_data
from refine_env.datasets.answerability import RANKS, SplitAudit, audit_splits
from refine_env.datasets.catalog import DEFAULT_MIXTURE, MINIWIKI, MIXED, SPLITS
from refine_env.datasets.folders import find_folder
from refine_env.datasets.mixing import common_splits
from refine_env.datasets.opening import OpenDataset
from refine_env.files import write_whole
from refine_env.retrieval import Retriever, RetrieverError, make_retriever


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """What is audited. What is None is left to the environment."""

    env: str
    """An environment's id or its dataset's name."""
    data_dir: Path | None = None
    corpus: str | None = None
    retriever: str = "bm25"
    """A search engine's name; `none` leaves the searches out."""
    level: str | None = None
    """MiniWiki only."""
    skip_invalid: bool = False
    output: Path | None = None
    """The JSON file; None takes runs/audit/<dataset>.json."""


def run(config: AuditConfig, console: Console | None = None) -> list[SplitAudit]:
    """Audit all splits, print the table and write the file. Raises `InputError`."""
    console = console or Console()
    dataset = dataset_of(config.env)
    with input_errors():
        opened = _open_splits(dataset, config)
    try:
        with input_errors():
            audits = _audit(opened, config, console)
    except RetrieverError as error:
        raise InputError(f"a search failed: {error}") from error
    console.print(_table(audits, config))
    path = config.output or Path("runs") / "audit" / f"{_name(dataset, config)}.json"
    write(path, opened, audits, config)
    console.print(f"Written to {path}", soft_wrap=True)
    return audits


def _open_splits(dataset: str, config: AuditConfig) -> list[OpenDataset]:
    options = EnvConfig(
        dataset=dataset,
        data_dir=config.data_dir,
        corpus=config.corpus,
        skip_invalid=config.skip_invalid,
        level=cast(Any, config.level),  # checked where the world is built
    )
    splits: Sequence[str] = SPLITS
    if dataset == MIXED:
        splits = common_splits(DEFAULT_MIXTURE, config.data_dir)
    elif dataset != MINIWIKI:
        there = find_folder(dataset, config.data_dir).questions
        splits = [split for split in SPLITS if split in there]
    if not splits:
        raise InputError(f"no split is there of all of {', '.join(DEFAULT_MIXTURE)}")
    return [open_data(replace(options, split=split)) for split in splits]


def _audit(
    opened: Sequence[OpenDataset], config: AuditConfig, console: Console
) -> list[SplitAudit]:
    def retriever_of(part: OpenDataset) -> Retriever:
        return make_retriever(config.retriever, part.corpus, strict=config.corpus is not None)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    passages = sum(len(c) for c in {id(part.corpus): part.corpus for part in opened}.values())
    with Progress(*columns, console=console, transient=True) as progress:
        reading = progress.add_task("reading passages", total=passages)
        searching = progress.add_task("searching", total=sum(len(p.questions) for p in opened))
        return audit_splits(
            opened,
            None if config.retriever == "none" else retriever_of,
            on_passages=lambda count: progress.advance(reading, count),
            on_questions=lambda count: progress.advance(searching, count),
        )


def table_rows(audits: Sequence[SplitAudit]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): counts with their share of the questions that were looked for."""
    searched = any(audit.in_top for audit in audits)
    header = ["split", "questions", "yes/no", "in corpus", "in evidence"]
    header += [f"top {rank}" for rank in RANKS] if searched else []
    rows = []
    for audit in audits:
        row = [audit.split, f"{audit.questions:,}", f"{audit.closed:,}"]
        row.append(_share(audit.in_corpus, audit.open))
        row.append(_share(audit.in_evidence, audit.with_evidence))
        row += [_share(audit.in_top[rank], audit.open) for rank in RANKS] if searched else []
        rows.append(row)
    return header, rows


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)" if total else "–"


def _table(audits: Sequence[SplitAudit], config: AuditConfig) -> Table:
    notes = [
        "a gold answer, at word boundaries; shares are of the questions not answered by yes/no"
    ]
    for audit in audits:
        if audit.with_evidence:
            notes.append(f"{audit.split}: evidence is known of {audit.with_evidence:,} of these")
        if audit.left_out:
            notes.append(f"{audit.split}: {audit.left_out:,} malformed records were left out")
        if audit.blank:
            notes.append(f"{audit.split}: {audit.blank:,} have answers that normalise to nothing")
        for other, count in audit.also_in.items():
            notes.append(f"{audit.split}: {count:,} questions are also in {other}")
    table = Table(
        title=f"{_name(audits[0].dataset, config)}, retriever {config.retriever}",
        caption="\n".join(notes),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    header, rows = table_rows(audits)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows:  # counts above their shares: side by side they break in a narrow terminal
        table.add_row(*(cell.replace(" (", "\n").rstrip(")") for cell in row))
    return table


def _name(dataset: str, config: AuditConfig) -> str:
    return f"{dataset}-{config.level}" if config.level else dataset


def write(
    path: Path, opened: Sequence[OpenDataset], audits: Sequence[SplitAudit], config: AuditConfig
) -> None:
    """Write settings, corpora and counts."""
    splits: list[dict[str, Any]] = []
    for part, audit in zip(opened, audits, strict=True):
        corpus = {"source": part.corpus.source, "passages": len(part.corpus)}
        splits.append({**asdict(audit), "corpus": corpus})
    data = {"config": asdict(config), "splits": splits}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, default=str, ensure_ascii=False)
    write_whole(path, text + "\n")
