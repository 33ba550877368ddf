"""Consoles: names from files are shown as they are, and do nothing to the terminal; narrow tables lose no figure."""

from __future__ import annotations

import re

import pytest
from rich.text import Text
from support.fronts import make_front

from autoprune.cli import output
from autoprune.cli.front_table import front_table
from autoprune.search.front import FrontFile

NAMES = ("[bold]", "a[/]b", "task [1]", ":smile:")
ESCAPES = "\x1b[31mred\x1b[0m\x07"


@pytest.mark.parametrize("name", NAMES)
def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str], name: str) -> None:
    rows = output.table(name, name)
    rows.add_row(name)
    output.stdout().print(rows)
    output.stdout().print(f"written: {name}")
    output.note(name)
    captured = capsys.readouterr()
    assert captured.out.count(name) == 4
    assert captured.err == f"{name}\n"


def test_escapes_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = output.table(ESCAPES, ESCAPES)
    rows.add_row(ESCAPES)
    rows.add_row(Text(output.printable(ESCAPES)))
    output.stdout().print(rows)
    output.stdout().print(ESCAPES)
    output.note(ESCAPES)
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\x07" not in captured.out + captured.err
    assert "\\x1b[31mred" in captured.out


def test_a_narrow_table_shows_every_figure() -> None:
    table, figure = front_table(FrontFile.model_validate(make_front())), re.compile(r"\d+\.\d")

    def shown(width: int) -> str:
        console = output.PlainConsole(width=width)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

    narrow = shown(80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert sorted(figure.findall(narrow)) == sorted(figure.findall(shown(200)))
