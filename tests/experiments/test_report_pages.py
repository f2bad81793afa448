"""Pages of reports: Markdown and HTML that say the same, and nothing of foreign text as markup."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments.pages import (
    TRANSCRIPT,
    code,
    fenced,
    folded,
    markdown_table,
    page,
    plain,
    save_figure,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b \\| c\\",
    "`x` ``y",
    "```",
    "- x",
    "1. x",
    "# x",
    "---",
    "***a*** _b_ __c__",
    "![x](http://127.0.0.1/x.png)",
    "[x](javascript:alert(1))",
    "<http://127.0.0.1/>",
    "&lt;b&gt;",
    "<details>",
    "</details>",
    "<details>\n<summary>x</summary>",
    "> x",
    "= x",
    "*",
    "~~x~~",
    "learning_rate 1e-06, −0.5",
]


def body(markdown: str, folder: Path = Path()) -> str:
    return page("title", markdown, folder).split("<body>")[1].split("</body>")[0]


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def tags(html: str) -> set[str]:
    return set(re.findall(r"</?(\w+)", html))


def drawn() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2], [2, 1], label="x")
    return figure


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_is_shown_as_it_is_wherever_it_stands(text: str) -> None:
    line = " ".join(text.split())
    paragraph = body(plain(text))
    assert text_of(paragraph).strip() == line
    assert tags(paragraph) == {"p"}
    table = body(markdown_table(["a", plain(text)], [[code(text), plain(text)]]))
    assert [cell for cell in text_of(table).split("\n") if cell] == ["a", line, line, line]
    assert tags(table) == {"div", "table", "thead", "tbody", "tr", "th", "td", "code"}
    block = body(folded(text, fenced(text)))
    assert text_of(block).split() == [*line.split(), *text.split()]
    assert tags(block) == {"details", "summary", "pre", "code"}


def test_control_characters_are_written_out() -> None:
    assert plain("a\x1b[31mb\u202ec") == "a␛\\[31mb\\\\u202ec"
    assert "\x1b" not in fenced("\x1b[31m") + code("\x1b[31m") + folded("\x1b[31m", "")


def test_html_in_the_markdown_is_text() -> None:
    html = body("<img src=x onerror=alert(1)>\n\ntext <b onclick=x>bold</b> <!-- x -->\n")
    assert tags(html) == {"p"}
    assert "<img src=x onerror=alert(1)>" in text_of(html)


def test_folded_blocks_are_closed_and_balanced() -> None:
    html = body(f"{folded('outer', folded('inner', 'x'))}\n\n</details>\n\n<details>\n"
                "<summary>never closed</summary>\n\ny\n")  # fmt: skip
    assert html.count("<details>") == html.count("\n</details>") == 3
    assert "<details open" not in html
    assert "&lt;/details&gt;" in html  # what closes nothing


def test_a_transcript_is_set_by_the_kinds_of_its_lines() -> None:
    text = "Turn 1\n   search │ <search> a </search>\n    doc 2 │ T\n          │ x │ y\n"
    html = body(fenced(text, TRANSCRIPT))
    assert '<h4>Turn 1</h4>\n<div class="block search"><span class="label">search</span>' in html
    assert '<div class="block documents"><span class="label">doc 2</span>' in html
    assert '<span class="label"></span><div class="text">x │ y</div>' in html


def test_a_page_loads_nothing(tmp_path: Path) -> None:
    save_figure(drawn(), tmp_path / "plot")
    html = page("<T>", "# A\n\n![p](plot.png)\n\n![s](plot.svg)\n\n[data](report.json)", tmp_path)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert re.findall(r'src="([a-z/+:]*)', html) == ["data:image/png", "data:image/svg+xml"]
    assert "<title>&lt;T&gt;</title>" in html
    assert "<script" not in html


@pytest.mark.parametrize("source", ["../secret.png", "/etc/passwd", "http://x/y.png", "a.txt"])
def test_pictures_of_elsewhere_are_an_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    with pytest.raises((ValueError, FileNotFoundError)):
        page("t", f"![x]({source})", tmp_path / "report")


def test_a_figure_is_written_twice_and_the_same_each_time(tmp_path: Path) -> None:
    first = save_figure(drawn(), tmp_path / "new" / "loss-0.1")
    assert [path.name for path in first] == ["loss-0.1.png", "loss-0.1.svg"]
    before = [path.read_bytes() for path in first]
    assert [path.read_bytes() for path in save_figure(drawn(), tmp_path / "new" / "loss-0.1")] == (
        before
    )
    assert b"<dc:date>" not in before[1]


def test_numbers_stand_to_the_right() -> None:
    assert markdown_table(["a", "b", "c"], [["x", "y", "1"]], text_columns=2).split("\n") == [
        "| a | b | c |",
        "| --- | --- | ---: |",
        "| x | y | 1 |",
    ]
