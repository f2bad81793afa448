"""Writes worlds of any size to JSONL, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import msgspec

from refine_env.datasets.miniwiki.world import SPLITS, Part, parts
from refine_env.files import naming
from refine_env.types import Document, Question

CORPUS = "corpus"


def stream(
    path: str | Path,
    level: str = "full",
    size: int | None = None,
    hops: int | Sequence[int] | None = None,
    world_seed: int = 0,
    noise: float | None = None,
) -> dict[str, int]:
    """Write `corpus.jsonl`, `train.jsonl`, `dev.jsonl` and `test.jsonl` into the folder `path`.

    The world is that of `build` with the same arguments. One block of it, about 200 documents, is
    in memory at a time. The files get their names when all is written: those of an older world go
    first, then the corpus comes and the questions after it, so that an interrupted call leaves
    nothing of two worlds, and questions never without their corpus. Returns how many lines each
    file has. The folder serves as `data_dir` of the dataset `custom`. Where it cannot be written
    an `OSError` names the folder or a file in it, and an older world stays as it was.
    """
    folder = Path(path).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    names = (CORPUS, *SPLITS)
    try:
        with naming(folder):
            lines = _write_parts(folder, names, parts(level, size, hops, world_seed, noise))
    except BaseException:
        for name in names:
            _part(folder, name).unlink(missing_ok=True)  # on a full disk they take all there is
        raise
    for name in reversed(names):
        (folder / f"{name}.jsonl").unlink(missing_ok=True)
    for name in names:
        _part(folder, name).replace(folder / f"{name}.jsonl")
    return lines


def _write_parts(folder: Path, names: Sequence[str], parts: Iterable[Part]) -> dict[str, int]:
    """Write the files under names of their own; how many lines each has."""
    lines = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_part(folder, name).open("wb")) for name in names}
        evidence: dict[str, Document] = {}
        for part in parts:
            # a part without documents asks about those of the part before it
            evidence = {document.id: document for document in part.documents} or evidence
            _write(files[CORPUS], [_document_record(document) for document in part.documents])
            _write(files[part.split], [_question_record(q, evidence) for q in part.questions])
            lines[CORPUS] += len(part.documents)
            lines[part.split] += len(part.questions)
    return lines


def _part(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl.part"


def _write(file: IO[bytes], records: Sequence[dict[str, object]]) -> None:
    file.write(_ENCODER.encode_lines(records))


_ENCODER = msgspec.json.Encoder()


def _document_record(document: Document) -> dict[str, object]:
    return {"id": document.id, "title": document.title, "text": document.text}


def _question_record(question: Question, evidence: Mapping[str, Document]) -> dict[str, object]:
    """The question as files of users have it, with its supporting documents."""
    supporting = [evidence[document_id] for document_id in question.supporting_ids]
    return {
        "id": question.id,
        "question": question.text,
        "golden_answers": list(question.answers),
        "type": question.type,
        "number_of_hops": question.hops,
        "steps": question.metadata["hops"],
        "paragraphs": [
            {"title": document.title, "text": document.text, "is_supporting": True}
            for document in supporting
        ],
    }
