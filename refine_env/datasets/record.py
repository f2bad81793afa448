"""A record of a file, where it stands, and what is said of those that are malformed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIXES = (".json", ".jsonl", ".tsv", ".csv", ".parquet")
MAX_REPORTED = 20
_LONGEST = 1000
"""Characters of a reason that are told; some quote an id or a key, as long as it may be."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file and where it stands."""

    path: Path
    number: int
    """Line of a JSONL, TSV or CSV file; running number from 1 of a JSON array or Parquet file."""
    fields: Any
    """A dictionary; an object of the shape that was asked for, where the record has it."""

    @property
    def place(self) -> str:
        return place_of(self.path, self.number)


class RecordErrors:
    """Malformed records: collected so that one run shows the first twenty, or left out and counted.

    With `skip` nothing is raised; whoever reads the file reports `summary` in the end.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self._messages: list[str] = []

    def add(self, place: str, reason: str) -> None:
        """Note one. Raises `ValueError` with the summary when that was the twentieth."""
        self.count += 1
        if len(self._messages) < MAX_REPORTED:
            reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]} ..."
            self._messages.append(f"{place}: {reason}")
        if self.count >= MAX_REPORTED:
            self.raise_if_any(more=True)

    def raise_if_any(self, more: bool = False) -> None:
        """Raise `ValueError` with all that were noted, unless they are to be skipped."""
        if self.count and not self.skip:
            head = f"{self.count} malformed record{'s' if self.count > 1 else ''}"
            head += " (stopped there)" if more else ""
            tail = "skip_invalid=True (--skip-invalid) leaves such records out and counts them"
            raise ValueError("\n  ".join([f"{head}:", *self._messages]) + f"\n{tail}")

    def summary(self, good: int) -> str:
        """How many of how many were left out, and the first twenty reasons."""
        head = f"left out {self.count} of {good + self.count} records, which are malformed"
        rest = self.count - len(self._messages)
        return "\n  ".join([f"{head}:", *self._messages, *([f"and {rest} more"] if rest else [])])


def kind_of(path: Path) -> str | None:
    """The file's suffix among `SUFFIXES`, `.gz` left out; None for any other file."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def place_of(path: Path, number: int) -> str:
    """Where a record stands, for messages; numbered as `Record.number` is."""
    by_line = kind_of(path) in (".jsonl", ".tsv", ".csv")
    return f"{path}:{number}" if by_line else f"{path}, record {number}"
