"""Time to read files of hostile shapes: `python -m tests.adversarial.file_growth`."""

from __future__ import annotations

import gzip
import io
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.adversarial.read_files import check_corpus, check_questions, reading

_QUESTION = b'{"question": "Who?", "answer": "Mira"}'
_SURROGATE = b'{"question": "Who?", "answer": "x", "x": "\\ud800"}'
_POINTER = (
    b'{"id": "%d", "question": "q%d", "answer": "x", "context": [["T", ["%d"]]], '
    b'"supporting_facts": [["T", 0]]}\n'
)


def _joined(before: bytes, piece: bytes, after: bytes = b"") -> Callable[[int], bytes]:
    """A file of pieces up to some size; `%d` in them is their number."""

    def make(size: int) -> bytes:
        count = max(1, size // len(piece))
        if b"%d" not in piece:
            return before + piece * count + after
        return before + b"".join(piece.replace(b"%d", b"%d" % n) for n in range(count)) + after

    return make


SHAPES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "records of an array": (".json", _joined(b"[", _QUESTION + b",\n", _QUESTION + b"]")),
    "an array of lone surrogates": (".json", _joined(b"[", _SURROGATE + b",", _SURROGATE + b"]")),
    "an array that does not end": (".json", _joined(b"[", _QUESTION + b", ")),
    "broken elements of an array": (".json", _joined(b"[", b'{"a" 1}, ', b"]")),
    "an array of numbers": (".json", _joined(b"[", b"1, ", b"1]")),
    "a string that does not end": (".json", _joined(b'[{"question": "', b"x")),
    "open brackets": (".json", _joined(b"", b"[")),
    "commas": (".json", _joined(b"[", b",")),
    "spaces": (".json", _joined(b"", b" ")),
    "broken records": (".jsonl", _joined(b"", b'{"question": "\n')),
    "records of numbers": (".jsonl", _joined(b"", b"1\n")),
    "open objects": (".jsonl", _joined(b"", b'{"a":')),
    "backslashes": (".jsonl", _joined(b'{"question": "', b"\\")),
    "digits": (".jsonl", _joined(b'{"question": ', b"9")),
    "answers": (".jsonl", _joined(b'{"question": "q", "answers": ["', b'%d", "', b'"]}')),
    "paragraphs of one title": (
        ".jsonl",
        _joined(
            b'{"question": "q", "answer": "x", "supporting_facts": [["T", 0]], "context": [',
            b'["T", ["%d"]], ',
            b'["T", ["a"]]]}',
        ),
    ),
    "questions with one title": (".jsonl", _joined(b"", _POINTER)),
    "quotes of a table": (".csv", _joined(b"question,answer\n", b'"')),
    "doubled quotes in a question": (".csv", _joined(b'question,answer\n"', b'""', b'",x\n')),
    "short lines of a table": (".csv", _joined(b"question,answer\n", b"x\n")),
    "columns": (".tsv", _joined(b"", b"question\t", b"\n")),
    "a list in a string": (".jsonl", _joined(b'{"question": "q", "answers": "[1', b",1", b']"}')),
    "brackets in a string": (".jsonl", _joined(b'{"question": "q", "answers": "', b"[", b'"}')),
    "zeros, packed": (".jsonl.gz", lambda size: gzip.compress(bytes(size), 1)),
}
"""Hostile shapes -> (suffix, a file of about so many bytes)."""


def _nested(before: bytes, opening: bytes, closing: bytes, after: bytes) -> Callable[[int], bytes]:
    """A file with something in something in something, closed as often as it is opened."""

    def make(size: int) -> bytes:
        depth = max(1, size // len(opening + closing))
        return before + opening * depth + closing * depth + after

    return make


def _numbered(
    line: Callable[[int], bytes], first: Callable[[int], bytes] = lambda size: b""
) -> Callable[[int], bytes]:
    """A file of a first part, which may be half of it, and numbered lines up to some size."""

    def make(size: int) -> bytes:
        parts = [first(size)]
        left, number = size - len(parts[0]), 0
        while left > 0:
            parts.append(line(number))
            left -= len(parts[-1])
            number += 1
        return b"".join(parts)

    return make


_SILENT = bytes.maketrans(b"01234", b"anthe")
"""Letters that the sketch of a question leaves out, in the place of digits."""


def _in_silent_letters(number: int) -> bytes:
    digits = b""
    while number:
        number, digit = divmod(number, 5)
        digits += b"%d" % digit
    return digits.translate(_SILENT)


def _parquet_of(table: Callable[[int], dict[str, list[Any]]]) -> Callable[[int], bytes]:
    """A Parquet file of columns, which is not compressed."""

    def make(size: int) -> bytes:
        import pyarrow
        import pyarrow.parquet as parquet

        sink = io.BytesIO()
        parquet.write_table(pyarrow.table(table(size)), sink, compression="none")
        return sink.getvalue()

    return make


def _deep_list(size: int) -> list[Any]:
    """Lists in lists, as deep as tables of this library go."""
    value: list[Any] = ["x"]
    for _ in range(min(size // 1000, 60)):
        value = [value]
    return value


_RECORD = b'{"question": "q", "answer": "x", '
ONE_RECORD: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "one question": (".json", _joined(b'[{"answer": "x", "question": "', b"who ", b'"}]')),
    "one answer": (".jsonl", _joined(b'{"question": "q", "answer": "', b"a the ", b'"}')),
    "one key": (".jsonl", _joined(_RECORD + b'"', b"k", b'": 1}')),
    "keys": (".jsonl", _joined(_RECORD, b'"k%d": 1, ', b'"k": 1}')),
    "a key again and again": (".jsonl", _joined(b'{"answer": "x", ', b'"a": 1, ', b'"a": 1}')),
    "lists in lists": (".jsonl", _nested(_RECORD + b'"x": ', b"[", b"]", b"}")),
    "objects in objects": (".json", _nested(b"[" + _RECORD + b'"x": ', b'{"a":', b"}", b"}]")),
    "answers in answers": (".jsonl", _nested(b'{"question": "q", "answers": ', b"[", b"]", b"}")),
    "a number as an answer": (".jsonl", _joined(b'{"question": "q", "answer": ', b"9", b"}")),
    "a fraction": (".jsonl", _joined(_RECORD + b'"x": 0.', b"0", b"1}")),
    "an exponent": (".jsonl", _joined(_RECORD + b'"x": 1e', b"9", b"}")),
    "escapes": (".jsonl", _joined(b'{"answer": "x", "question": "q', b"\\u0061", b'"}')),
    "escaped surrogates": (".jsonl", _joined(b'{"answer": "x", "question": "q', b"\\ud800", b'"}')),
    "doubled quotes": (".jsonl", _joined(b'{"answer": "x", "question": "\\"', b'\\"\\"', b'q"}')),
    "one object over lines": (
        ".json",
        _joined(b'{"question": "q",\n', b'"k%d": 1,\n', b'"answer": "x"}'),
    ),
    "a wrapped list": (".json", _joined(b'{"Data": [', _QUESTION + b",", _QUESTION + b"]}")),
    "a wrapped list in a list": (".json", _nested(b"", b'{"Data": [', b"]}", b"")),
    "sums in a string": (".jsonl", _joined(b'{"question": "q", "answers": "[1', b"+1", b']"}')),
    "signs in a string": (".jsonl", _joined(b'{"question": "q", "answers": "[', b"-", b'1]"}')),
    "strings in a string": (".jsonl", _joined(b'{"question": "q", "answers": "[', b"'a'", b']"}')),
    "lists in a string": (".jsonl", _nested(b'{"question": "q", "answers": "', b"[", b"]", b'"}')),
    "facts": (
        ".jsonl",
        _joined(_RECORD + b'"context": [], "supporting_facts": [', b'["T%d", 0], ', b'["T", 0]]}'),
    ),
    "marks in a prompt": (
        ".jsonl",
        _joined(
            b'{"reward_model": {"ground_truth": {"target": ["x"]}}, "prompt": "',
            b"Question: ",
            b'q"}',
        ),
    ),
    "a cell": (".csv", _joined(b"question,answer\nq,", b"x", b"\n")),
    "lines in a cell": (".tsv", _joined(b'question\tanswer\nq\t"', b"x\n", b'"\n')),
    "the name of a column": (".csv", _joined(b"question,answer,", b"n", b"\nq,x,1\n")),
    "columns and a row": (
        ".csv",
        lambda size: b"%b,answer\n%b,x\n" % (b"question," * (size // 16), b"q," * (size // 16)),
    ),
    "cells beyond the columns": (".csv", _joined(b"question,answer\n", b"x,", b"x\n")),
    "one cell": (".parquet", _parquet_of(lambda size: {"question": ["q"], "answer": ["x" * size]})),
    "columns of Parquet": (
        ".parquet",
        _parquet_of(
            lambda size: (
                {"question": ["q"], "answer": ["x"]}
                | {f"c{number}": [1] for number in range(size // 500)}
            )
        ),
    ),
    "rows of Parquet": (
        ".parquet",
        _parquet_of(
            lambda size: {
                "question": [f"q{number}" for number in range(size // 12)],
                "answer": ["x"] * (size // 12),
            }
        ),
    ),
    "lists of Parquet": (
        ".parquet",
        _parquet_of(lambda size: {"question": ["q"], "answers": [["x"] * (size // 5)]}),
    ),
    "deep lists of Parquet": (
        ".parquet",
        _parquet_of(lambda size: {"question": ["q"], "answer": ["x"], "x": [_deep_list(size)]}),
    ),
}
"""One record, line, field or value that takes the whole file; and a few of tables."""

_TEXTS = b'["T", ["%d"]]'


def _steps_into_one_title(size: int) -> bytes:
    """A MuSiQue record whose steps each ask for a number in one of many texts of one title."""
    count = size // 100
    steps = b", ".join(
        b'{"question": "s", "answer": "%d", "document_id": "T_1"}' % n for n in range(count)
    )
    texts = b", ".join(b'["T", ["text %d"]]' % n for n in range(count))
    return b'{"id": "2hop__1", %b"question_decomposition": [%b], "context": [%b]}' % (
        _RECORD[1:],
        steps,
        texts,
    )


MANY_RECORDS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "questions of silent letters": (
        ".jsonl",
        _numbered(lambda n: b'{"question": "z%b", "answer": "x"}\n' % _in_silent_letters(n + 5)),
    ),
    "questions of one text": (
        ".jsonl",
        _numbered(lambda n: b'{"question": "who", "answer": "x%d"}\n' % n),
    ),
    "one id after a long question": (
        ".jsonl",
        _numbered(
            lambda n: b'{"id": "1", "question": "q%d", "answer": "x"}\n' % n,
            lambda size: b'{"id": "1", "question": "%b", "answer": "x"}\n' % (b"x " * (size // 4)),
        ),
    ),
    "a long question again": (
        ".jsonl",
        _numbered(
            lambda n: b'{"question": "z%b", "answer": "x"}\n' % _in_silent_letters(n + 5),
            lambda size: b'{"question": "z %b", "answer": "x"}\n' % (b"a " * (size // 4)),
        ),
    ),
    "one long id": (
        ".jsonl",
        lambda size: b"".join(
            b'{"id": "%b", "question": "q%d", "answer": "x"}\n' % (b"i" * (size // 2), number)
            for number in range(2)
        ),
    ),
    "steps into one title": (".jsonl", _steps_into_one_title),
    "pointers to a title of many texts": (
        ".jsonl",
        _numbered(
            lambda n: (
                b'{"question": "q%d", "answer": "x", "supporting_facts": [["T", 0]], '
                b'"context": [["U", ["u"]]]}\n' % n
            ),
            lambda size: (
                b'{"question": "q", "answer": "x", "context": [%b]}\n'
                % b", ".join(_TEXTS % n for n in range(size // 34))
            ),
        ),
    ),
    "titles that look like numbered ones": (
        ".jsonl",
        lambda size: (
            b'{"question": "q", "answer": "x", "context": [%b]}\n'
            % b", ".join(
                [b'["T #%d", ["a"]]' % n for n in range(size // 40)]
                + [_TEXTS % n for n in range(size // 40)]
            )
        ),
    ),
}
"""Many records, or parts of one, that each might be compared with all others."""
SHAPES |= ONE_RECORD | MANY_RECORDS


def measured(name: str, size: int, folder: Path, repeats: int = 1) -> float:
    """Seconds of processor time to read a file of that shape and size, the least of so many: once
    up to its errors, once without those records, and as passages where that is possible.
    """
    suffix, make = SHAPES[name]
    path = folder / f"test{suffix}"
    path.write_bytes(make(size))
    times = []
    for _ in range(repeats):
        started = time.process_time()
        reading(lambda: check_questions(path, skip=False), path)
        reading(lambda: check_questions(path, skip=True), path)
        if suffix.startswith(".json"):
            reading(lambda: check_corpus(path), path)
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    logging.disable()
    print("| file of | 10 kB / 100 kB / 1 MB, ms | last tenfold |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in SHAPES:
            times = [measured(name, size, Path(folder), 3) for size in (10**4, 10**5, 10**6)]
            shown = " / ".join(f"{1000 * seconds:,.3g}" for seconds in times)
            print(f"| {name} | {shown} | {times[2] / times[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
