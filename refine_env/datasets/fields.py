"""What readers share: the pieces of a record, checked, and the question they make."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from refine_env.datasets.records import undouble_quotes

Fields = Mapping[str, Any]

_TEXT_KEYS = ("question", "Question", "query")
_ANSWER_KEYS = ("golden_answers", "answers", "answer", "Answer", "possible_answers")
_ID_KEYS = ("id", "_id", "QuestionId", "question_id", "qid")
_ALIAS_KEYS = ("answer_aliases", "aliases")
_PASSAGE_KEYS = ("context", "paragraphs", "supporting_facts")
_OWN_KEYS = {*_TEXT_KEYS, *_ANSWER_KEYS, *_ID_KEYS, *_ALIAS_KEYS, *_PASSAGE_KEYS, "type"}


Paragraph = tuple[str, str]
"""Title and text of a passage that comes with a question; there are a million of them, and a plain
tuple is made in a quarter of the time of any other."""


class Support(NamedTuple):
    """A pointer to a passage that holds evidence."""

    title: str
    text: str = ""
    """The passage's text; "" where the record does not give it."""
    hint: str = ""
    """Words that the passage holds, to choose among those of one title."""


@dataclass(slots=True)
class ParsedQuestion:
    """A record as a reader understood it; pointers are not yet resolved."""

    text: str
    answers: tuple[str, ...]
    original_id: str | None = None
    hops: int | None = None
    type: str = ""
    source: str = ""
    """The dataset that the record itself says it is from; "" where it says none."""
    paragraphs: tuple[Paragraph, ...] = ()
    supports: tuple[Support, ...] = ()
    """In the order of the hops."""
    metadata: dict[str, Any] = field(default_factory=dict)


def parse_common(fields: Fields, **known: Any) -> ParsedQuestion:
    """What every format has; `known` is what its reader knows beyond that.

    Raises `ValueError` with the reason when question or answers are missing or of a wrong kind.
    """
    metadata = {key: value for key, value in fields.items() if key not in _OWN_KEYS}
    kind = fields.get("type")
    parsed = ParsedQuestion(
        question_text(fields),
        answers(fields),
        original_id(fields),
        type=kind if isinstance(kind, str) else "",
        metadata=metadata,
    )
    for name, value in known.items():
        setattr(parsed, name, value)
    return parsed


def question_text(fields: Fields) -> str:
    """The question, cleaned."""
    key = _first_key(fields, _TEXT_KEYS)
    if key is None:
        raise ValueError(f"no question: none of the keys {', '.join(_TEXT_KEYS)}")
    text = fields[key]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key!r} must be a string that is not blank, got {text!r:.80}")
    return clean_text(text)


def clean_text(text: str) -> str:
    """A question without white space around it and CSV quoting that was left in it."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] == '"' and '""' in text[1:-1]:
        inner = text[1:-1]
        return undouble_quotes(inner) if undouble_quotes(inner) != inner else text
    return text


def original_id(fields: Fields) -> str | None:
    """The record's own id as a string; None where it has none."""
    key = _first_key(fields, _ID_KEYS)
    if key is None or fields[key] in (None, ""):
        return None
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{key!r} must be a string or a whole number, got {value!r:.80}")
    return str(value)


def answers(fields: Fields) -> tuple[str, ...]:
    """Gold answers with aliases, each once, in the record's order."""
    key = _first_key(fields, _ANSWER_KEYS)
    if key is None:
        raise ValueError(
            f"no gold answer: none of the keys {', '.join(_ANSWER_KEYS)} (the test sets of some "
            "datasets are published without)"
        )
    lists_in_strings = key not in ("answer", "Answer")
    if not lists_in_strings and type(fields[key]) is str:
        found = [fields[key]]  # most records: the checks of a list are not needed
    else:
        found = strings(fields[key], key, lists_in_strings)
    for alias_key in _ALIAS_KEYS:
        if fields.get(alias_key) is not None:
            found += strings(fields[alias_key], alias_key)
    return unique_answers(found, key)


def unique_answers(found: Iterable[str], key: str) -> tuple[str, ...]:
    """The answers that are not blank, each once. Raises `ValueError` when none is left."""
    kept = tuple(dict.fromkeys(answer for answer in found if answer.strip()))
    if not kept:
        raise ValueError(f"no gold answer: {key!r} is empty")
    return kept


def strings(value: Any, key: str, lists_in_strings: bool = True) -> list[str]:
    """A list of strings: from a list, a JSON list inside a string, or one string or number."""
    if isinstance(value, str) and lists_in_strings and value.lstrip().startswith("["):
        value = _list_in_string(value, key)
    values = value if isinstance(value, list | tuple) else [value]
    result = []
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise ValueError(f"{key!r} must hold strings, got {item!r:.80}")
        result.append(str(item))
    return result


def _list_in_string(text: str, key: str) -> Any:
    """A list as JSON or as Python writes it, which is what tables hold."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    raise ValueError(f"{key!r} starts like a list but cannot be read as one: {text:.80}")


def paragraphs(fields: Fields) -> tuple[Paragraph, ...]:
    """The passages of a record, from any of the usual layouts.

    `[[title, [sentence, ...]], ...]`, `[{"title", "text" | "paragraph_text"}, ...]`, or columns
    `{"title": [...], "sentences" | "content": [[sentence, ...], ...]}`; empty without any.
    """
    value = fields.get("context") or fields.get("paragraphs") or []
    if isinstance(value, str):
        value = [{"text": value}]
    if isinstance(value, dict):
        titles = value.get("title")
        bodies = value.get("sentences", value.get("content"))
        if not isinstance(titles, list) or not isinstance(bodies, list):
            raise ValueError("'context' must hold the lists 'title' and 'sentences'")
        value = list(zip(titles, bodies, strict=False))
    if not isinstance(value, list):
        raise ValueError(f"'context' must be a list, got {value!r:.80}")
    entries = [_title_and_body(entry) for entry in value]
    try:
        return join_sentences(entries)
    except TypeError as error:
        raise ValueError(f"the sentences of a paragraph must be strings: {error}") from error


def join_sentences(entries: Sequence[tuple[str, list[str]]]) -> tuple[Paragraph, ...]:
    """The passages of a record, given as titles with sentences.

    HotpotQA's sentences bring the white space between them, 2WikiMultihopQA's do not.
    """
    join = ("" if _are_spaced(entries) else " ").join
    return tuple([(title.strip(), join(body).strip()) for title, body in entries])


def _are_spaced(entries: Iterable[tuple[str, list[str]]]) -> bool:
    for _, body in entries:
        for part in body[1:]:
            if part and part[0] == " ":
                return True
    return False


def _title_and_body(entry: Any) -> tuple[str, list[str]]:
    """The title of a paragraph and its sentences; a whole text counts as one sentence."""
    if isinstance(entry, dict):
        title, body = entry.get("title", ""), entry.get("text", entry.get("paragraph_text"))
    elif isinstance(entry, list | tuple) and len(entry) == 2:
        title, body = entry
    else:
        raise ValueError(f"a paragraph must be [title, sentences], got {entry!r:.80}")
    if isinstance(body, str):
        body = [body]
    if not isinstance(title, str) or not isinstance(body, list):
        raise ValueError(f"title and text of a paragraph must be strings, got {entry!r:.80}")
    return title, body


def _first_key(fields: Fields, keys: Iterable[str]) -> str | None:
    for key in keys:
        if fields.get(key) is not None:
            return key
    return None
