"""What goes over the wire of `/retrieve`: passages as the published corpora write them.

A request is `{"queries": [...], "topk": k, "return_scores": true}`, its answer
`{"result": [[{"document": {"id", "contents"}, "score"}, ...], ...]}`, a list for each query;
without scores the documents stand there bare.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from typing import Any

from refine_env.datasets.records import undouble_quotes
from refine_env.types import Document

TOKEN_VARIABLE = "REFINE_ENV_TOKEN"
"""Environment variable with the bearer token that a server asks for and a client sends."""
MAX_QUERIES = 1024
"""Queries in a request: what a client sends at most and a server takes at most."""
MAX_QUERY_CHARS = 8192
CHECK_HEADER = "Refine-Env-Check"
"""Comes with the answers of our server; see `check_of`."""


def check_of(request_crc: int, answer: bytes) -> str:
    """What was asked and what is answered, so that a client can tell an answer to another request,
    and one that was changed on its way. Against accidents alone: anyone can work it out.
    """
    return f"{request_crc:08x}-{zlib.crc32(answer):08x}"


def clean(text: str) -> str:
    """`text` with U+FFFD for what UTF-8 cannot carry (lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def to_contents(document: Document) -> str:
    """Title in double quotes on the first line, then the text."""
    title = " ".join(document.title.splitlines()).replace('"', '""')
    return clean(f'"{title}"\n{document.text}')


def read_entry(entry: Any) -> Document:
    """A document of an answer, in any of the shapes that servers give.

    With or without a score around it; `contents`, or `title` and `text`; the id a string, a number
    or missing, in which case it is made from the contents. Raises `ValueError` for anything else.
    """
    score, fields = None, entry
    if isinstance(entry, dict) and "document" in entry:
        score, fields = entry.get("score"), entry["document"]
    if isinstance(fields, str):
        fields = {"contents": fields}
    if not isinstance(fields, dict):
        raise ValueError(f"a document is {_kind(fields)}, not an object")
    if score is not None and not _is_finite(score):
        raise ValueError(f"a score is {score!r:.40}, not a finite number")
    title, text = _title_and_text(fields)
    document_id = fields.get("id")
    if document_id is None:
        document_id = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=8).hexdigest()
    if isinstance(document_id, bool) or not isinstance(document_id, str | int):
        raise ValueError(f"a document's id is {_kind(document_id)}, not a string or a number")
    return Document(clean(str(document_id)), title, text, None if score is None else float(score))


def _title_and_text(fields: dict[str, Any]) -> tuple[str, str]:
    contents, title, text = fields.get("contents"), fields.get("title"), fields.get("text")
    if isinstance(contents, str):
        first, _, rest = contents.partition("\n")
        if len(first) >= 2 and first[0] == first[-1] == '"':
            first = undouble_quotes(first[1:-1])
        # Lone surrogates may come in as JSON escapes; nothing after this could encode them.
        return clean(first), clean(rest)
    if isinstance(text, str) and (title is None or isinstance(title, str)):
        return clean(title or ""), clean(text)
    raise ValueError(
        f"a document has neither contents nor text among its keys {list(fields)!r:.80}"
    )


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return number and math.isfinite(value)
    except OverflowError:  # JSON has integers that no float can hold
        return False


def _kind(value: Any) -> str:
    return f"of the type {type(value).__name__}"
