"""One short reader for each format of questions; the record's own keys say which it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from refine_env.datasets.fields import (
    Fields,
    Paragraph,
    ParsedQuestion,
    Support,
    clean_text,
    join_sentences,
    paragraphs,
    parse_common,
    strings,
    unique_answers,
)
from refine_env.datasets.verl import unwrap_verl


def parse_record(fields: Fields | MultihopRecord) -> ParsedQuestion:
    """The question of a record of any known format.

    FlashRAG keeps a dataset's own fields under `metadata`; they count as if they stood beside it.
    Raises `ValueError` with the reason for a malformed record.
    """
    if isinstance(fields, MultihopRecord):
        return read_multihop(fields)
    nested = fields.get("metadata")
    if isinstance(nested, Mapping):
        fields = {**nested, **{key: fields[key] for key in fields if key != "metadata"}}
    if fields.get("reward_model") is not None:
        return _read_verl(fields)
    return _read_by_key(fields)


def _read_by_key(fields: Fields) -> ParsedQuestion:
    # A table of several datasets has every column in every row, null where it does not apply.
    keys = (key for key in READERS if fields.get(key) is not None)
    return READERS.get(next(keys, ""), read_plain)(fields)


def _read_verl(fields: Fields) -> ParsedQuestion:
    """Search-R1's tables for verl: what verl adds is taken off, the rest is read as ever."""
    plain, source = unwrap_verl(fields)
    parsed = _read_by_key(plain)
    parsed.source = source
    return parsed


def read_plain(fields: Fields) -> ParsedQuestion:
    """NQ-open, FlashRAG, Bamboogle's CSV, and any file with a question and its answers.

    Passages may come along as `paragraphs`; those marked `is_supporting` are the evidence.
    """
    return parse_common(fields, paragraphs=paragraphs(fields), supports=_marked_paragraphs(fields))


def read_hotpotqa(fields: Fields) -> ParsedQuestion:
    """HotpotQA and 2WikiMultihopQA: `context` and `supporting_facts` by title and sentence."""
    found = paragraphs(fields)
    parsed = parse_common(fields, paragraphs=found)
    parsed.hops = _HOPS.get(parsed.type, 2)
    parsed.supports = _in_hop_order(parsed, _title_supports(fields, found))
    return parsed


_HOPS = {"bridge_comparison": 4}
"""It compares two entities that each take one hop to reach; every other type has two hops."""


class MultihopRecord(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record of HotpotQA or 2WikiMultihopQA exactly as released, its types checked by msgspec.

    A quarter of a million records with ten paragraphs each are too many to check piece by piece
    in Python. What differs in any way is read by `read_hotpotqa`.
    """

    question: str
    answer: str
    supporting_facts: list[tuple[str, int]]
    context: list[tuple[str, list[str]]]
    id: str = msgspec.field(name="_id")
    type: str = ""
    level: Any = msgspec.UNSET
    entity_ids: Any = msgspec.UNSET
    evidences: Any = msgspec.UNSET
    evidences_id: Any = msgspec.UNSET
    answer_id: Any = msgspec.UNSET


_MULTIHOP_METADATA = ("level", "entity_ids", "evidences", "evidences_id", "answer_id")


def read_multihop(record: MultihopRecord) -> ParsedQuestion:
    """What `read_hotpotqa` makes of the same record."""
    text = clean_text(record.question)
    if not (text and record.answer.strip() and record.id and record.context):
        return _read_by_key(msgspec.to_builtins(record))  # it says what is wrong
    values = ((key, getattr(record, key)) for key in _MULTIHOP_METADATA)
    parsed = ParsedQuestion(
        text,
        (record.answer,),
        record.id,
        _HOPS.get(record.type, 2),
        record.type,
        paragraphs=join_sentences(record.context),
        metadata={key: value for key, value in values if value is not msgspec.UNSET},
    )
    titles = [title for title, _ in record.supporting_facts]
    parsed.supports = _in_hop_order(parsed, _supports_of(titles, parsed.paragraphs))
    return parsed


def read_musique(fields: Fields) -> ParsedQuestion:
    """MuSiQue: one step of `question_decomposition` for each hop, each with its paragraph."""
    steps = fields["question_decomposition"]
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise ValueError("'question_decomposition' must be a list of objects")
    found = paragraphs(fields)
    by_index = _by_index(fields, found)
    supports = tuple(dict.fromkeys(_step_support(step, by_index) for step in steps))
    parsed = parse_common(fields, paragraphs=found, hops=len(steps) or None, supports=supports)
    prefix, separator, _ = (parsed.original_id or "").partition("__")
    parsed.type = prefix if separator else parsed.type
    parsed.metadata["question_decomposition"] = [
        {"question": step.get("question", ""), "answer": step.get("answer", "")} for step in steps
    ]
    return parsed


def read_popqa(fields: Fields) -> ParsedQuestion:
    """PopQA: `possible_answers` is a JSON list inside a string; the relation is the type."""
    parsed = read_plain(fields)
    parsed.type = str(fields.get("prop", ""))
    return parsed


def read_triviaqa(fields: Fields) -> ParsedQuestion:
    """TriviaQA's own JSON: `Answer` is an object with `Value` and `Aliases`."""
    answer = fields.get("Answer")
    if not isinstance(answer, Mapping):
        raise ValueError("no gold answer: 'Answer' must be an object with Value and Aliases")
    found = strings(answer.get("Value", ""), "Value", lists_in_strings=False)
    found += strings(answer.get("Aliases", []), "Aliases")
    plain = {key: fields[key] for key in ("Question", "QuestionId") if key in fields}
    return parse_common({**plain, "answers": list(unique_answers(found, "Answer"))})


READERS: dict[str, Callable[[Fields], ParsedQuestion]] = {
    "question_decomposition": read_musique,
    "supporting_facts": read_hotpotqa,
    "possible_answers": read_popqa,
    "s_aliases": read_popqa,
    "QuestionId": read_triviaqa,
}
"""A key that only this format has -> its reader; the first that is there decides."""


def _marked_paragraphs(fields: Fields) -> tuple[Support, ...]:
    entries = fields.get("paragraphs")
    if not isinstance(entries, list):
        return ()
    marked = [entry for entry in entries if isinstance(entry, Mapping)]
    marked = [entry for entry in marked if entry.get("is_supporting") is True]
    return tuple(Support(*paragraph) for paragraph in paragraphs({"paragraphs": marked}))


def _title_supports(fields: Fields, found: tuple[Paragraph, ...]) -> list[Support]:
    """The supporting paragraphs in the order in which the facts name them."""
    facts = fields["supporting_facts"] or []
    if isinstance(facts, Mapping):
        columns = [facts.get(name, []) for name in ("title", "sent_id")]
        if not all(isinstance(column, list) for column in columns):
            raise ValueError("'supporting_facts' must hold the lists 'title' and 'sent_id'")
        facts = list(zip(*columns, strict=False))
    if not isinstance(facts, list):
        raise ValueError(f"'supporting_facts' must be a list, got {facts!r:.80}")
    for fact in facts:
        if not isinstance(fact, list | tuple) or not fact or not isinstance(fact[0], str):
            raise ValueError(f"a supporting fact must be [title, sentence], got {fact!r:.80}")
    return _supports_of([fact[0] for fact in facts], found)


def _supports_of(titles: Iterable[str], found: tuple[Paragraph, ...]) -> list[Support]:
    """A pointer for each title, with its paragraph's text where the record brings it."""
    texts = dict(found)
    unique = dict.fromkeys(map(str.strip, titles))
    return [Support(title, texts.get(title, "")) for title in unique]


def _in_hop_order(parsed: ParsedQuestion, supports: list[Support]) -> tuple[Support, ...]:
    """Of a bridge question's two paragraphs, the one that alone holds the answer goes last."""
    if parsed.type == "bridge" and len(supports) == 2:
        holds = [parsed.answers[0] in support.text for support in supports]
        if holds == [True, False]:
            supports = supports[::-1]
    return tuple(supports)


def _by_index(fields: Fields, found: tuple[Paragraph, ...]) -> dict[Any, Paragraph]:
    entries = fields.get("paragraphs")
    by_index: dict[Any, Paragraph] = {}
    if not isinstance(entries, list):  # they came as `context`
        return by_index
    for place, (entry, paragraph) in enumerate(zip(entries, found, strict=False)):
        if isinstance(entry, Mapping):
            index = place if entry.get("idx") is None else entry["idx"]
            if not isinstance(index, int | str):
                raise ValueError(f"the 'idx' of a paragraph must be a number, got {index!r:.80}")
            by_index[index] = paragraph
    return by_index


def _step_support(step: Mapping[str, Any], by_index: dict[Any, Paragraph]) -> Support:
    """Where a step's evidence is: by index, as a paragraph of its own, or by document id."""
    hint = str(step.get("answer", ""))
    own = step.get("support_paragraph")
    if isinstance(own, Mapping):
        return Support(*paragraphs({"paragraphs": [own]})[0], hint)
    index = step.get("paragraph_support_idx")
    if isinstance(index, int) and index in by_index:
        return Support(*by_index[index], hint)
    title, separator, _ = str(step.get("document_id", "")).rpartition("_")
    return Support(title if separator else "", "", hint)
