"""Files of questions and passages as somebody might damage them.

A file is drawn from the valid ones below: a record's values are changed before it is written, or
the bytes of the written file, or both.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
from dataclasses import dataclass
from typing import Any

_PARAGRAPHS = [["Orvik", ["Orvik is a town.", " It has no harbour."]], ["Mira", ["Of Orvik."]]]
HOTPOTQA = {
    "_id": "a1",
    "question": "Where was Mira born?",
    "answer": "Orvik",
    "type": "bridge",
    "level": "easy",
    "supporting_facts": [["Orvik", 0], ["Mira", 0]],
    "context": _PARAGRAPHS,
}
TWO_WIKI = {
    **HOTPOTQA,
    "type": "bridge_comparison",
    "evidences": [["Mira", "born in", "Orvik"]],
    "evidences_id": None,
    "answer_id": "Q1",
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "When did the town of Mira join?",
    "answer": "1986",
    "answer_aliases": ["in 1986"],
    "question_decomposition": [
        {"id": 1, "question": "town of Mira", "answer": "Orvik", "paragraph_support_idx": 1},
        {"id": 2, "question": "#1 joined?", "answer": "1986", "paragraph_support_idx": 0},
    ],
    "paragraphs": [
        {"idx": 0, "title": "Orvik", "paragraph_text": "Orvik joined in 1986."},
        {"idx": 1, "title": "Mira", "paragraph_text": "Mira lives in Orvik."},
    ],
}
FLASHRAG = {
    "id": "train_0",
    "question": "Where was Mira born?",
    "golden_answers": ["Orvik", "the town"],
    "metadata": {
        "type": "bridge",
        "supporting_facts": {"title": ["Orvik", "Mira"], "sent_id": [0, 0]},
        "context": {"title": ["Orvik", "Mira"], "sentences": [["A town."], ["Of Orvik."]]},
    },
}
POPQA = {"id": 7, "question": "Who?", "possible_answers": '["Mira", "M. Sund"]', "prop": "author"}
TRIVIAQA = {
    "QuestionId": "t1",
    "Question": "Who?",
    "Answer": {"Value": "Mira", "Aliases": ["M. Sund"], "Type": "Entity"},
}
VERL = {
    "data_source": "searchR1_nq",
    "prompt": [{"role": "user", "content": "Answer it. Question: who built it?"}],
    "reward_model": {"ground_truth": {"target": ["Mira"]}, "style": "rule"},
    "extra_info": {"index": 0, "split": "train"},
}
PLAIN = {
    "question": "Who?",
    "answer": "Mira",
    "paragraphs": [
        {"title": "Mira", "text": "She built it.", "is_supporting": True},
        {"title": "Orvik", "text": "A town."},
    ],
}
STYLES: dict[str, dict[str, Any]] = {
    "hotpotqa": HOTPOTQA,
    "2wikimultihopqa": TWO_WIKI,
    "musique": MUSIQUE,
    "flashrag": FLASHRAG,
    "popqa": POPQA,
    "triviaqa": TRIVIAQA,
    "verl": VERL,
    "plain": PLAIN,
    "corpus": {"id": "p1", "title": "Orvik", "text": "A town."},
    "corpus, contents": {"id": 3, "contents": '"Orvik"\nA town.'},
}
"""A valid record of each style; the last two are of passages."""
SUFFIXES = (".json", ".jsonl", ".tsv", ".csv", ".parquet")
_LONG, _DEEP = "@digits@", "@brackets@"
"""Stand for a number of more digits than Python converts, and for a list in a list in a list, as
deep as parsers go or a little deeper."""
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, _LONG, 1e308, float("nan"), "", " ", "\ud83d", "\x00", "[", "[1",
    "[{[]: 1}]", "[[], {}]", "['a', b'c']", "[0x" + "f" * 5000 + "]", "(" * 200, "[" * 500, "-",
    [], {}, [[]], [{}], [None], [1, 2], {"title": 3}, {"title": [], "sentences": 5}, [["a"]],
    {"a": {"b": []}}, ["x", ["y"]], [["x", "y"]], {"Value": 5, "Aliases": 5}, {"target": {}},
    [{"role": "user", "content": None}], _DEEP, "x" * 3000, "question", {"question": []},
)  # fmt: skip
"""Values that no field expects, or not every one."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file that is to be read."""

    style: str
    suffix: str
    """With `.gz` where it is packed."""
    data: bytes

    @property
    def name(self) -> str:
        return f"test{self.suffix}"


def drawn(dice: random.Random) -> Input:
    """A file, damaged in zero to two ways."""
    style, suffix = dice.choice(list(STYLES)), dice.choice(SUFFIXES)
    records = [copy.deepcopy(STYLES[style]) for _ in range(dice.randint(1, 3))]
    for number, record in enumerate(records):
        for key in ("id", "_id", "QuestionId"):
            if key in record:
                record[key] = f"{record[key]}{number}"
    if dice.random() < 0.5:
        for _ in range(dice.randint(1, 3)):
            _change_value(dice.choice(records), dice)
    if dice.random() < 0.05:
        records.append(dice.choice(ODD))
    data = _written(records, suffix, dice)
    if dice.random() < 0.4:
        data = _changed(data, dice)
    if dice.random() < 0.2:
        suffix, data = suffix + ".gz", gzip.compress(data, 1, mtime=0)
        if dice.random() < 0.3:
            data = _changed(data, dice)
    return Input(style, suffix, data)


def _change_value(record: Any, dice: random.Random) -> None:
    """Put an odd value somewhere into the record, take one away, or move one to another key."""
    if not isinstance(record, dict):
        return
    place: Any = record
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = dice.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and dice.random() < 0.6:
            place = inner
            continue
        what = dice.random()
        if what < 0.1:
            del place[key]
        elif what < 0.2 and isinstance(place, dict):
            other = dice.choice(list(STYLES.values()))
            name = dice.choice(list(other))
            place[name] = copy.deepcopy(dice.choice((inner, other[name])))
        else:
            place[key] = copy.deepcopy(dice.choice(ODD))
        return


def _written(records: list[Any], suffix: str, dice: random.Random) -> bytes:
    if suffix == ".parquet":
        return _parquet(records) or _json(records).encode("utf-8", "surrogatepass")
    if suffix in (".tsv", ".csv"):
        return _table(records, "\t" if suffix == ".tsv" else ",").encode("utf-8", "surrogatepass")
    if suffix == ".jsonl" or dice.random() < 0.3:
        text = "".join(_json(record) + "\n" for record in records)
    elif dice.random() < 0.1:
        text = f'{{"Data": {_json(records)}}}'
    else:
        text = json.dumps(records, indent=1) if dice.random() < 0.3 else _json(records)
    return text.encode("utf-8", "surrogatepass")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).replace(f'"{_LONG}"', "9" * 5000)
    depth = 850 + 10 * (len(text) % 40)
    return text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth)


def _table(records: list[Any], delimiter: str) -> str:
    rows = [record for record in records if isinstance(record, dict)]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _parquet(records: list[Any]) -> bytes:
    """A table; empty where the values have no common type."""
    import pyarrow
    import pyarrow.parquet as parquet

    sink = io.BytesIO()
    try:
        rows = [record for record in records if isinstance(record, dict)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, UnicodeError):
        return b""
    return sink.getvalue()


_TOKENS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\r", b"\t", b"\0", b"\xff"]
_TOKENS += [b"null", b"NaN", b"1e999", b'""', b"\\ud800", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"PAR1"]
_TOKENS += [b"[" * 1200, b"9" * 5000, b'{"a":' * 1200, b"\x1f\x8b", b"ustar", b" " * 100]


def _changed(data: bytes, dice: random.Random) -> bytes:
    """The bytes after one to four changes."""
    content = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at, what = dice.randrange(len(content) + 1), dice.randrange(6)
        if what == 0:
            content[at:at] = dice.choice(_TOKENS)
        elif what == 1:
            content[at : at + 1] = bytes([dice.randrange(256)])
        elif what == 2:
            del content[at : at + dice.randint(1, 20)]
        elif what == 3:
            content[at:at] = content[at : at + dice.randint(1, 60)] * dice.randint(1, 3)
        elif what == 4:
            content[at : at + 1] = dice.choice(_TOKENS)
        else:
            del content[at:]
    return bytes(content)
