"""Time to read files of hostile shapes: `python -m tests.adversarial.file_growth`."""

from __future__ import annotations

import gzip
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.adversarial.read_files import check_questions, reading

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


def measured(name: str, size: int, folder: Path, repeats: int = 1) -> float:
    """Seconds of processor time to read a file of that shape and size, the least of so many: once
    up to its errors, once without those records.
    """
    suffix, make = SHAPES[name]
    path = folder / f"test{suffix}"
    path.write_bytes(make(size))
    times = []
    for _ in range(repeats):
        started = time.process_time()
        reading(lambda: check_questions(path, skip=False), path)
        reading(lambda: check_questions(path, skip=True), path)
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
