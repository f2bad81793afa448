"""Question files to questions: read, duplicates left out, pointers resolved."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from refine_env.datasets.catalog import DATASETS
from refine_env.datasets.corpora import Corpus
from refine_env.datasets.fields import ParsedQuestion, Support
from refine_env.datasets.linking import OwnPassages, PassageTable, StoredPassages
from refine_env.datasets.readers import MultihopRecord, parse_record
from refine_env.datasets.record import RecordErrors, place_of
from refine_env.datasets.records import read_records
from refine_env.datasets.repeats import Content, SeenQuestions
from refine_env.types import Question

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkedQuestions:
    """The questions of a split, and the passages that came with them."""

    questions: tuple[Question, ...]
    passages: OwnPassages
    """Empty when the corpus was given, or when no question brought any."""
    left_out: int
    """Malformed records, skipped because the caller said so."""


def read_questions(
    dataset: str,
    split: str,
    paths: Sequence[Path],
    corpus: Corpus | None,
    skip_invalid: bool = False,
) -> LinkedQuestions:
    """The questions of a split's files, in order, with the ids of their supporting passages.

    Without a corpus their own paragraphs are it. One that is given is read only when a question
    points into it. Raises `ValueError` for malformed records, and for one id on two questions;
    with `skip_invalid` those are left out, which is logged with how many of how many.
    """
    with _collector_paused():
        return _read_questions(dataset, split, paths, corpus, RecordErrors(skip_invalid))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing here is a cycle, and looking for some among millions of strings takes a fifth of the
    time.

    What was made meanwhile counts as old afterwards, else the next allocation would look through
    all of it. Freezing and thawing does that; not where somebody has frozen objects on purpose.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _read_questions(
    dataset: str, split: str, paths: Sequence[Path], corpus: Corpus | None, errors: RecordErrors
) -> LinkedQuestions:
    own = OwnPassages()
    table: PassageTable | None = own if corpus is None else None
    questions: list[Question] = []
    unlinked: list[tuple[int, tuple[Support, ...]]] = []
    without = 0
    for parsed in _parse(dataset, split, paths, errors):
        if corpus is None:
            without += not parsed.paragraphs
            own.add(parsed.paragraphs)
        if table is None and corpus is not None and parsed.supports:
            store = corpus.store
            table = PassageTable(corpus.documents) if store is None else StoredPassages(store)
        supporting_ids = table.find(parsed.supports) if table is not None else ()
        if parsed.supports and not supporting_ids:
            unlinked.append((len(questions), parsed.supports))
        questions.append(_question(split, parsed, supporting_ids))
    if own:
        # A pointer may be into a paragraph that a later question brought.
        unlinked = [entry for entry in unlinked if not _link_late(questions, own, *entry)]
    _report(dataset, split, len(questions), len(unlinked), without if own else 0)
    return LinkedQuestions(tuple(questions), own, errors.count)


def _parse(
    dataset: str, split: str, paths: Sequence[Path], errors: RecordErrors
) -> Iterator[ParsedQuestion]:
    """The records as questions, each with its final id in `original_id` and its dataset.

    One with the text and the answers of an earlier one is left out. A record without an id is
    numbered by its place among the records of the split. A record that names its dataset belongs
    to that one: ids such as `train_0` are given out by each dataset anew.
    """
    seen = SeenQuestions()
    owners: dict[str, tuple[Content, Path, int]] = {}
    read = good = 0
    for path in paths:
        for record in read_records(path, errors, MultihopRecord):
            read += 1
            try:
                parsed = parse_record(record.fields)
                parsed.source = parsed.source or dataset
                own_id = parsed.original_id or f"{split}:{read}"
                parsed.original_id = f"{parsed.source}:{own_id}"
                content = Content(parsed.text, parsed.answers)
                here = (content, path, record.number)
                owner = owners.setdefault(parsed.original_id, here)
                if not content.same_as(owner[0]):
                    at = place_of(*owner[1:])
                    raise ValueError(f"the id {own_id!r:.80} belongs to another question at {at}")
            except ValueError as error:
                errors.add(record.place, str(error))
                continue
            good += 1
            if seen.add(content):
                yield parsed
    errors.raise_if_any()
    if errors.count:
        logger.warning("%s %s: %s", dataset, split, errors.summary(good))
    if not seen.count:
        raise ValueError(f"no questions in {', '.join(map(str, paths))}")
    repeated = good - seen.count
    logger.info("%s %s: %d questions, %d repeated", dataset, split, seen.count, repeated)


def _question(split: str, parsed: ParsedQuestion, supporting_ids: tuple[str, ...]) -> Question:
    info = DATASETS.get(parsed.source)
    return Question(
        id=parsed.original_id or "",
        text=parsed.text,
        answers=parsed.answers,
        dataset=parsed.source,
        split=split,
        hops=parsed.hops or (info.hops if info else None),
        type=parsed.type,
        supporting_ids=supporting_ids,
        metadata=parsed.metadata,
    )


def _link_late(
    questions: list[Question], table: PassageTable, place: int, supports: tuple[Support, ...]
) -> bool:
    supporting_ids = table.find(supports)
    questions[place] = replace(questions[place], supporting_ids=supporting_ids)
    return bool(supporting_ids)


def _report(dataset: str, split: str, count: int, nowhere: int, without: int) -> None:
    if nowhere:
        logger.warning(
            "%s %s: the supporting facts of %d of %d questions point to no passage of the corpus",
            dataset,
            split,
            nowhere,
            count,
        )
    if without:
        logger.warning(
            "%s %s: %d of %d questions bring no paragraphs; the corpus is built from the others'",
            dataset,
            split,
            without,
            count,
        )
