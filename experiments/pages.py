"""Reports as Markdown with pictures beside it, and the same as one HTML page that needs nothing.

A report is written once, as Markdown. Text that comes from elsewhere (names, settings, what
policies wrote) goes through `plain`, `code` or `fenced` and then reaches neither as markup.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Sequence
from html import escape, unescape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from experiments.evaluation import report
from refine_env.files import whole_file
from refine_env.render import palette_css
from refine_env.sections import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
TRANSCRIPT = "transcript"
"""The language of a fenced block that holds what `render_ansi` gives without colours."""

_MARKUP = re.compile(
    r"[\\`*\[\]<>~&!]|(?<![^\W_])_|_(?![^\W_])|^[#=|:]|^[+-](?=\s|-|$)|^\d+(?=[.)](?:\s|$))"
)
"""What Markdown would read as more than text."""
_DETAILS = re.compile(r"<details>\n<summary>([^<>\n]*)</summary>")
_IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
_LINE = re.compile(r" *(\w*)( \d+)? │ (.*)")
"""A line of a transcript: label with a number where there are several, bar, content."""
_STYLE = """
body { max-width: 88rem; font-size: 16px; }
* { box-sizing: border-box; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 0.6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.5rem; overflow-wrap: anywhere; }
p, li { max-width: 60rem; overflow-wrap: anywhere; }
a { color: var(--documents); }
pre { overflow-x: auto; padding: 0.8rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
.wide { overflow-x: auto; margin: 0.8rem 0; }
table { width: max-content; border-collapse: collapse; background: var(--card); font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.7rem; border: 1px solid var(--line); vertical-align: top;
  max-width: 24rem; overflow-wrap: break-word; }
th { background: var(--paper); text-align: left; }
td[style*="right"] { white-space: nowrap; }
img { display: block; max-width: 100%; height: auto; margin: 0.8rem 0; padding: 0.6rem;
  background: #ffffff; border: 1px solid var(--line); border-radius: 8px; }
details { margin: 0.8rem 0; }
details > summary { cursor: pointer; padding: 0.2rem 0; }
details > :not(summary) { margin-left: 1rem; }
.transcript { padding: 0.4rem 1rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.transcript .block { margin: 0; padding-block: 0.1rem; }
"""


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `path` with `.png` and with `.svg`; the same figure gives the same bytes.

    The folder is made where it is missing.
    """
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, unwanted in (("png", "Software"), ("svg", "Date")):
        place = path.with_name(f"{path.name}.{kind}")
        with (
            rc_context({"svg.hashsalt": "refine-env"}),
            warnings.catch_warnings(),
            whole_file(place) as file,
        ):
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box says it, too
            figure.savefig(file, format=kind, dpi=DPI, metadata={unwanted: None})
        written.append(place)
    return written


def plain(text: str) -> str:
    """Markdown, in one line, that shows `text` as it is; for paragraphs and cells of tables."""
    line = " ".join(visible(text).split())
    return _MARKUP.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    found = match.group()
    return f"{found}\\" if found.isdecimal() else f"\\{found}"  # "1." would begin a list


def code(text: str) -> str:
    """Markdown, in one line, that shows `text` as code."""
    line = " ".join(visible(text).split())
    ticks = "`" * (_longest_run(line) + 1)
    room = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{room}{line}{room}{ticks}" if line else ""


def fenced(text: str, language: str = "") -> str:
    """A block of code in Markdown that nothing in `text` can end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def folded(summary: str, markdown: str) -> str:
    """A block that is closed until a reader opens it; `summary` is text, `markdown` its content."""
    title = escape(" ".join(visible(summary).split()))
    return f"<details>\n<summary>{title}</summary>\n\n{markdown.strip()}\n\n</details>"


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
    """A table of cells that are Markdown themselves; the first `text_columns` to the left, the
    others, of numbers, to the right.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in (header, *rows)]
    lines = report.markdown_table(cells[0], cells[1:])
    sides = ["---" if place < text_columns else "---:" for place in range(len(header))]
    return "\n".join([lines[0], f"| {' | '.join(sides)} |", *lines[2:]])


def page(title: str, markdown: str, folder: Path) -> str:
    """The Markdown as one HTML page, light and dark, without script or network.

    Pictures are embedded from `folder`. HTML in the Markdown is shown as text, except the blocks
    that `folded` makes. Raises `ValueError` for a picture of another kind or place and
    `FileNotFoundError` for one that is missing.
    """
    css = resources.files("refine_env").joinpath("render.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(visible(title))}</title>\n<style>\n{palette_css()}{css}{_STYLE}</style>\n"
        f"</head>\n<body>\n{_body(markdown, folder)}</body>\n</html>\n"
    )


def _body(markdown: str, folder: Path) -> str:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    opened = 0

    def html_block(tokens: Any, place: int, *_: Any) -> str:
        nonlocal opened
        content = tokens[place].content.strip()
        if match := _DETAILS.fullmatch(content):
            opened += 1
            return f"<details>\n<summary>{escape(unescape(match[1]))}</summary>\n"
        if content == "</details>" and opened:
            opened -= 1
            return "</details>\n"
        return f"<p>{escape(content)}</p>\n"

    def image(tokens: Any, place: int, *_: Any) -> str:
        alt = escape(tokens[place].content)
        return f'<img src="{_embedded(str(tokens[place].attrs["src"]), folder)}" alt="{alt}">'

    rules: dict[str, Any] = parser.renderer.rules  # type: ignore[attr-defined]
    rules["html_block"] = html_block
    rules["html_inline"] = lambda tokens, place, *_: escape(tokens[place].content)
    rules["image"] = image
    rules["fence"] = lambda tokens, place, *_: _fence(tokens[place])
    rules["table_open"] = lambda *_: '<div class="wide"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    body = parser.render(markdown)
    return body + "</details>\n" * opened


def _embedded(source: str, folder: Path) -> str:
    """A picture as an address that holds it."""
    path = (folder / source).resolve()
    if path.suffix not in _IMAGE_TYPES or not path.is_relative_to(folder.resolve()):
        kinds = ", ".join(_IMAGE_TYPES)
        raise ValueError(f"{source!r} is no picture ({kinds}) within {folder}")
    data = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_IMAGE_TYPES[path.suffix]};base64,{data}"


def _fence(token: Any) -> str:
    if token.info.strip() != TRANSCRIPT:
        return f"<pre><code>{escape(token.content)}</code></pre>\n"
    kind, lines = "", []
    for line in token.content.splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            lines.append(f"<h4>{escape(line)}</h4>\n" if line.strip() else "")
            continue
        word, number, content = match.groups(default="")
        kind = "documents" if word == "doc" else word or kind
        lines.append(
            f'<div class="block {kind}"><span class="label">{word}{number}</span>'
            f'<div class="text">{escape(content)}</div></div>\n'
        )
    return f'<div class="transcript">\n{"".join(lines)}</div>\n'
