"""The frame of a page and its small parts. Text from outside goes through ``told``, which escapes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

from simulations.report.svg import Drawing

told = escape
"""Text as HTML."""
FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Nothing is fetched, whatever a text in the page says."""


@lru_cache(maxsize=4)
def _part(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def page(title: str, body: Iterable[str], steps: str = "") -> str:
    """``steps`` is JSON for the slider; without it the page has no script."""
    script = ""
    if steps:
        data = steps.replace("<", "\\u003c")
        script = f'<script type="application/json" id="steps">{data}</script>\n<script>\n{_part("page.js")}</script>\n'
    content = "\n".join(body)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{told(title)}</title>
<style>
{_part("page.css")}</style>
</head>
<body>
{content}
{script}</body>
</html>
"""


def section(name: str, title: str, *parts: str) -> str:
    content = "\n".join(filter(None, parts))
    return f'<section id="{name}">\n<h2>{told(title)}</h2>\n{content}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{told(text)}</p>"


def figure(drawing: Drawing) -> str:
    return f'<figure class="wide">{drawing}</figure>'


def legend(rows: Iterable[tuple[str, str]], dots: bool = False) -> str:
    """(colour of the style sheet, what it means)."""
    kind = ' class="dot"' if dots else ""
    items = "".join(f'<li><i{kind} style="background:var(--{colour})"></i>{told(what)}</li>' for colour, what in rows)
    return f'<ul class="legend">{items}</ul>'


def tiles(rows: Iterable[tuple[str, str]]) -> str:
    """(value, what it is)."""
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{told(a)}</b><span>{told(b)}</span></div>" for a, b in rows)
        + "</div>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), marks: str = "") -> str:
    """``numbers`` are columns of numbers; with ``marks`` the last column is coloured by its first word."""
    right = set(numbers)
    kinds = {"held": "ok", "held,": "open", "VIOLATED": "no", "failed": "no", "never": "open", "not": "open"}

    def cell(kind: str, place: int, text: str) -> str:
        names = ["n"] if place in right else []
        if marks and kind == "td" and place == len(head) - 1:
            names.append(kinds.get(text.split(" ")[0], ""))
        attribute = f' class="{" ".join(filter(None, names))}"' if any(names) else ""
        return f"<{kind}{attribute}>{told(text)}</{kind}>"

    lines = ["<tr>" + "".join(cell("th", place, text) for place, text in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", place, text) for place, text in enumerate(row)) + "</tr>" for row in rows]
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def pairs(rows: Iterable[tuple[str, str]], code: Iterable[str] = ()) -> str:
    """Names and values; those named in ``code`` are shown as code."""
    as_code = set(code)
    items = "".join(
        f"<dt>{told(name)}</dt><dd>{f'<code>{told(value)}</code>' if name in as_code else told(value)}</dd>"
        for name, value in rows
    )
    return f'<dl class="pairs">{items}</dl>'


def counts(rows: Iterable[tuple[str, int]]) -> str:
    """In two columns."""
    return '<ul class="two">' + "".join(f"<li>{told(a)}<span>{b:,}</span></li>" for a, b in rows) + "</ul>"


def untested(topics: Iterable[tuple[str, Sequence[str]]]) -> str:
    items = "".join(
        f"<dt>{told(topic)}</dt>" + "".join(f"<dd>{told(what)}</dd>" for what in rows) for topic, rows in topics
    )
    return f'<dl class="open-list">{items}</dl>'


def signature(sha256: str) -> str:
    return (
        f"<p>SHA-256 of the JSON of this report:<br><code>{told(sha256)}</code></p>"
        '<div class="sign"><div>Name</div><div>Signature</div><div>Date</div></div>'
    )
