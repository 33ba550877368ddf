"""The consoles of a command: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160
"""Columns when stdout is no terminal: a table in a log file must not lose its ends."""

_QUIET = ContextVar("quiet", default=False)


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """A block in which, if asked for, nothing but results and errors is written."""
    token = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(token)


class PlainConsole(Console):
    """A console that takes every text as it is: names come from files, and may hold brackets or terminal escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text, its control characters spelled out."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    """A text that does nothing to a terminal: control characters are spelled out, line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def stdout() -> Console:
    """The console of results; made anew, because tests and callers may replace ``sys.stdout``."""
    return PlainConsole(width=None if sys.stdout.isatty() else PIPED_WIDTH, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """The console of progress and notes; it writes nothing under ``--quiet``."""
    return PlainConsole(stderr=True, width=None if sys.stderr.isatty() else PIPED_WIDTH, quiet=_QUIET.get())


def note(text: str) -> None:
    """A line for people beside the result."""
    stderr().print(text, soft_wrap=True)


def complain(text: str) -> None:
    """An error beside a result that is written all the same."""
    sys.stderr.write(f"error: {printable(text)}\n")


def emit(result: dict[str, Any]) -> None:
    """The one JSON object of ``--json``."""
    sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")


def table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    made = Table(title=title, title_justify="left", header_style="bold", title_style="bold", box=SIMPLE_HEAD)
    made.show_edge = made.pad_edge = False
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left", no_wrap=not i, overflow="fold")
    return made
