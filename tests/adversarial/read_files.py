"""What reading a file may come to: questions, or a `ValueError` that says where it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from refine_env.datasets.corpora import load_corpus
from refine_env.datasets.questions import read_questions
from tests.adversarial.damaged_files import Input


def check_file(found: Input, folder: Path) -> str:
    """Read the file as questions and as a corpus. What came of it: `read` or `refused`.

    Raises `AssertionError` for a property that does not hold; anything else that is raised is a
    failure, too.
    """
    path = folder / found.name
    path.write_bytes(found.data)
    outcome = reading(lambda: check_questions(path, skip=False), path)
    skipped = reading(lambda: check_questions(path, skip=True), path)
    assert outcome == "refused" or skipped == "read"
    if ".json" in found.suffix:
        reading(lambda: check_corpus(path), path)
    return outcome


def reading(read: Callable[[], None], path: Path) -> str:
    try:
        read()
    except ValueError as error:
        # Those of libraries are subclasses of it, and name no file.
        assert type(error) is ValueError, f"{type(error).__name__}: {error}"
        _check_message(str(error), path)
        return "refused"
    return "read"


_RECORD = re.compile(r"(:\d+|, record \d+): ")


def _check_message(message: str, path: Path) -> None:
    """It names the file, and of malformed records every place."""
    assert str(path) in message, message
    head, *lines = message.splitlines()
    if re.match(r"\d+ malformed record", head):
        places = [line for line in lines if line.startswith(f"  {path}")]
        assert places and all(_RECORD.match(line[len(f"  {path}") :]) for line in places), message
    assert len(message) < 40_000


def check_questions(path: Path, skip: bool) -> None:
    found = read_questions("custom", "test", [path], None, skip)
    assert found.questions
    for question in found.questions:
        assert question.id.startswith(("custom:", f"{question.dataset}:"))
        assert isinstance(question.text, str) and question.text.strip()
        assert question.answers and all(isinstance(answer, str) for answer in question.answers)
        assert any(answer.strip() for answer in question.answers)
        assert question.split == "test" and isinstance(question.type, str)
        assert all(isinstance(name, str) for name in question.supporting_ids)
        hash(question)
    found.passages.documents()


def check_corpus(path: Path) -> None:
    for document in load_corpus(path):
        assert document.id and isinstance(document.title + document.text, str)
