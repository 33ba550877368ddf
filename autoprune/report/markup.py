"""The few shapes of HTML that the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

DOTS = {"dense": "dense", "front": "front", "preset": "published methods", "control": "controls"}
"""Kinds of points, with their name in a legend; each kind has its own dot."""


def note(text: str) -> str:
    """A paragraph of explanation; `text` is plain."""
    return f'<p class="note">{escape(text)}</p>'


def section(anchor: str, title: str, body: str) -> str:
    """A section with its heading."""
    return f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(title)}</h2>{body}</section>'


def snippet(text: str) -> str:
    """Code to copy."""
    button = '<button class="action" data-copy="1" type="button">Copy</button>'
    return f'<div class="code"><pre>{escape(text)}</pre>{button}</div>'


def dot(kind: str) -> str:
    """The mark of a kind of points."""
    return f'<span class="dot {kind}"></span>'


def cell(content: str, attributes: str = "") -> str:
    """A table cell; `content` is HTML."""
    return f"<td{' ' if attributes else ''}{attributes}>{content}</td>"


def row(kind: str, name: str, cells: Iterable[str], key: str | None = None, attributes: str = "") -> str:
    """A table row headed by a named point; with a key, choosing the row shows the point's card."""
    link = f' data-key="{key}" tabindex="0"' if key else ""
    head = f'<th scope="row" data-value="{escape(name)}">{dot(kind) if kind else ""}{escape(name)}</th>'
    return f"<tr{link}{' ' if attributes else ''}{attributes}>{head}{''.join(cells)}</tr>"


def table(heads: Sequence[str], rows: Iterable[str], attributes: str = "", sortable: bool = False) -> str:
    """A table in a frame that scrolls sideways where the screen is narrow."""
    shown = [f'<button type="button">{escape(h)}</button>' if sortable else escape(h) for h in heads]
    head = "".join(f'<th scope="col">{h}</th>' for h in shown)
    open_tag = f"<table {attributes}>" if attributes else "<table>"
    return f'<div class="scroll">{open_tag}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
