"""Readers of question files: what fuzzing found, a short run of it, and its time."""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from refine_env.datasets.corpora import load_corpus
from refine_env.datasets.fields import Support
from refine_env.datasets.linking import OwnPassages, TitleGroup
from refine_env.datasets.questions import read_questions
from refine_env.scoring import cover_match
from refine_env.types import Document, Question
from tests.adversarial import damaged_files, fuzz
from tests.adversarial.damaged_files import MUSIQUE, PLAIN, STYLES, SUFFIXES, Input, drawn
from tests.adversarial.file_growth import SHAPES, measured
from tests.adversarial.read_files import check_file


@pytest.fixture(scope="module", autouse=True)
def _pyarrow() -> None:
    pytest.importorskip("pyarrow", reason="pyarrow comes with the train extra")


def read(path: Path) -> tuple[Question, ...]:
    return read_questions("custom", "test", [path], None).questions


def written(folder: Path, name: str, data: Any) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


@pytest.mark.parametrize("suffix", [*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES)])
@pytest.mark.parametrize("style", [style for style in STYLES if "corpus" not in style])
def test_every_style_is_read_before_it_is_damaged(style: str, suffix: str, tmp_path: Path) -> None:
    plain = suffix.removesuffix(".gz")
    data = damaged_files._written([copy.deepcopy(STYLES[style])], plain, random.Random(0))
    data = gzip.compress(data) if suffix.endswith(".gz") else data
    # Tables have no lists, and columns of Parquet none of both texts and lists.
    texts_alone = plain in (".tsv", ".csv")
    mixed = plain == ".parquet" and style in ("hotpotqa", "2wikimultihopqa")
    outcome = check_file(Input(style, suffix, data), tmp_path)
    assert outcome == "read" or texts_alone or mixed


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    assert fuzz.of_readers(400, seed=0, keep=tmp_path) == 0
    assert not list(tmp_path.iterdir())


def test_what_is_drawn_is_of_every_kind_and_often_read(tmp_path: Path) -> None:
    dice = random.Random(1)
    found = [drawn(dice) for _ in range(600)]
    assert {one.suffix.removesuffix(".gz") for one in found} == set(SUFFIXES)
    assert {one.style for one in found} == set(STYLES)
    outcomes = [check_file(one, tmp_path) for one in found[:150]]
    assert min(outcomes.count(outcome) for outcome in ("read", "refused")) > 30


def test_the_run_finds_what_is_wrong_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(found: Input, folder: Path) -> str:
        assert ".csv" not in found.suffix
        return "read"

    monkeypatch.setattr(fuzz, "check_file", wrong)
    failures = fuzz.of_readers(100, seed=0, keep=tmp_path)
    assert 0 < failures == len(list(tmp_path.iterdir())) < 60
    assert "kept in" in capsys.readouterr().out


# -- what was found


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    data = damaged_files._parquet([copy.deepcopy(PLAIN)])
    for content in (b"", b"PAR1", data[:-30], data[:4] + bytes(60) + data[64:]):
        path = written(tmp_path, "test.parquet", content)
        with pytest.raises(ValueError, match=r"test\.parquet cannot be read") as caught:
            read(path)
        assert type(caught.value) is ValueError


def test_a_packed_parquet_file_is_unpacked(tmp_path: Path) -> None:
    data = damaged_files._parquet([copy.deepcopy(PLAIN)])
    path = written(tmp_path, "test.parquet.gz", gzip.compress(data))
    assert read(path)[0].answers == ("Mira",)
    written(tmp_path, "test.parquet.gz", gzip.compress(data)[:-20])
    with pytest.raises(ValueError, match=r"test\.parquet\.gz cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("name", "place"),
    [("test.jsonl", r"test\.jsonl:2: not JSON"), ("test.json", r"test\.json, record 2: not JSON")],
)
def test_a_number_of_more_digits_than_python_converts(
    name: str, place: str, tmp_path: Path
) -> None:
    records = [json.dumps(PLAIN), f'{{"question": "q", "answer": {"9" * 5000}}}']
    text = "\n".join(records) if name == "test.jsonl" else f"[{', '.join(records)}]"
    with pytest.raises(ValueError, match=place):
        read(written(tmp_path, name, text.encode()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"possible_answers": "[{[]: 1}]"}, "cannot be read as one"),
        (
            {"QuestionId": 1, "Question": "q", "Answer": {"Value": float("nan"), "Aliases": []}},
            None,
        ),
        (
            {"QuestionId": 1, "Question": "q", "Answer": {"Value": None, "Aliases": []}},
            "must hold strings",
        ),
        ({"supporting_facts": {"title": 3}}, "the lists 'title' and 'sent_id'"),
        ({**MUSIQUE, "paragraphs": [{"idx": [], "title": "a", "text": "b"}]}, "'idx' of a"),
        ({**MUSIQUE, "paragraphs": 5, "context": [["a", ["b"]]]}, None),
    ],
)
def test_a_value_of_another_kind_is_a_reason_and_no_error_of_python(
    change: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    record = {"question": "q", **change}
    if not any("nswer" in key for key in record):
        record["answer"] = "x"
    path = written(tmp_path, "test.jsonl", record)
    if reason is None:
        assert read(path)
    else:
        with pytest.raises(ValueError, match=rf"test\.jsonl:1: .*{reason}"):
            read(path)


def test_many_texts_of_one_title_take_no_time_each_for_all_others() -> None:
    own = OwnPassages()
    own.add([("T", str(number % 30_000)) for number in range(60_000)])
    assert len(own.documents()) == 30_000
    assert own.documents()[-1].id == "T #30000"


def test_questions_without_a_letter_of_their_sketch_are_not_compared_with_all_others(
    tmp_path: Path,
) -> None:
    """Of Chinese, or of the letters a, n, t, h and e, all were: 18 s for 100 kB."""
    texts = ["\u8c01\u5efa\u4e86\u5b83", "\u5b83\u5728\u54ea\u91cc", "the ten", "a hen", "Ten!"]
    rows = [{"question": text, "answer": answer} for text in texts for answer in ("x", "the x")]
    path = written(tmp_path, "test.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [question.text for question in read(path)] == texts[:4]  # "Ten!" is "the ten"


def _looked_through(documents: list[Document], support: Support) -> Document | None:
    """What a pointer means, by looking at each document."""
    bare = "".join(support.text.split())
    for same in (
        lambda text: text == support.text,
        lambda text: "".join(text.split()) == bare,
    ):
        found = [document for document in documents if support.text and same(document.text)]
        if found:
            return found[0]
    if len(documents) == 1:
        return documents[0]
    hinted = (d for d in documents if support.hint and cover_match(d.text, (support.hint,)))
    return next(hinted, None)


def test_a_pointer_into_many_texts_finds_what_looking_at_each_does() -> None:
    dice = random.Random(5)
    words = ["Orvik", "orvik,", "the", "a b", "ab", "b", "  ", "\n", "1986", "Mira.", "\u8c01"]

    def text() -> str:
        return " ".join(dice.choices(words, k=dice.randint(0, 4)))

    outcomes = []
    for _ in range(300):
        documents = [Document(str(n), "T", text()) for n in range(dice.randint(0, 6))]
        first = dice.randint(0, len(documents))
        group = TitleGroup(documents[:first])
        for there in (first, len(documents)):
            support = Support("T", dice.choice(("", text())), dice.choice(("", text())))
            found = group.find(support)
            assert found == _looked_through(documents[:there], support)
            outcomes.append(found is not None)
            for document in documents[there:]:
                group.add(document)
    assert 100 < sum(outcomes) < 500


def test_numbers_of_a_title_go_on_behind_titles_that_look_like_them() -> None:
    own = OwnPassages()
    own.add([("T #2", "x"), ("T #4", "x"), *(("T", str(number)) for number in range(4))])
    own.add([("T #3", "y"), ("", "1"), ("untitled", "1"), ("", "2"), ("untitled", "2")])
    ids = [(document.id, document.title, document.text) for document in own.documents()]
    assert [name for name, title, _ in ids if title == "T"] == ["T", "T #3", "T #5", "T #6"]
    assert ("T #3 #2", "T #3", "y") in ids
    assert len({name for name, *_ in ids}) == len(ids) == 11


def test_a_long_id_is_told_in_short(tmp_path: Path) -> None:
    rows = [{"id": "i" * 10**5, "question": text, "answer": "x"} for text in "pq"]
    path = written(tmp_path, "test.jsonl", "\n".join(map(json.dumps, rows)).encode())
    with pytest.raises(ValueError, match=r"test\.jsonl:2: the id 'iii") as caught:
        read(path)
    assert len(str(caught.value)) < 2000
    passage = {"id": 1, **{f"k{number}": 1 for number in range(10**4)}}
    with pytest.raises(ValueError, match="neither 'text' nor 'contents'") as caught:
        load_corpus(written(tmp_path, "corpus.jsonl", passage))
    assert len(str(caught.value)) < 2000


def test_the_rest_of_a_cell_that_is_too_long_is_not_read_as_rows(tmp_path: Path) -> None:
    """The reader went on within the cell: with `skip_invalid`, its lines were questions."""
    cell = "x\n" * 70_000 + "who,me\n"
    path = written(tmp_path, "test.csv", f'question,answer\nq,"{cell}"\n'.encode())
    with pytest.raises(ValueError, match=r"test\.csv:\d+: a cell of more than 131,072 characters"):
        read_questions("custom", "test", [path], None, True)


BOUND = 4
"""Tenfold the input may take 10 times as long, times this: quadratic work takes 100 times."""


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "sizes", [(1_500, 15_000), pytest.param((10**5, 10**6), marks=pytest.mark.slow)]
)
def test_no_hostile_file_takes_more_than_linear_time(
    name: str, sizes: tuple[int, int], tmp_path: Path
) -> None:
    for repeats in (1, 3, 9):  # measured again where a busy machine disturbed it
        small, large = (measured(name, size, tmp_path, repeats) for size in sizes)
        if large <= 10 * BOUND * max(small, 1e-3):
            return
    pytest.fail(f"{name}: {small:.4f} s at {sizes[0]} bytes, {large:.4f} s at tenfold")
