"""An object in another process: its answers, its errors, its end."""

from __future__ import annotations

import os
import sys

import pytest

from autoprune.engines.vllm.comparison.process import EngineError, engine_process
from autoprune.errors import PatchError


class Echo:
    def __init__(self, word: str) -> None:
        if word == "unmakeable":
            raise PatchError("will not", field="option", remedy="leave it out")
        self._word = word

    def said(self, other: str) -> str:
        sys.stdout.write("printed, and not seen\n")
        sys.stdout.flush()
        return f"{self._word} {other} {os.environ.get('AUTOPRUNE_SCHEDULE')}"

    def wrapped(self) -> None:
        try:
            raise PatchError("deep down", field="inner")
        except PatchError as error:
            raise RuntimeError("outside") from error

    def fails(self) -> None:
        os.write(2, b"what the engine logged\n")
        raise ZeroDivisionError("no such number")

    def dies(self) -> None:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(7)


def test_answers_come_back_and_nothing_is_printed(monkeypatch, capfd):
    monkeypatch.setenv("AUTOPRUNE_SCHEDULE", "here.json")
    with engine_process("echo", Echo, "one", environment={"AUTOPRUNE_SCHEDULE": None}) as ask:
        assert ask("said", "two") == "one two None"
    assert os.environ["AUTOPRUNE_SCHEDULE"] == "here.json"
    assert capfd.readouterr().out == ""


def test_errors_of_the_other_side():
    with pytest.raises(PatchError, match="will not"), engine_process("echo", Echo, "unmakeable", environment={}):
        pass
    for method, words in (
        ("wrapped", "deep down"),
        ("fails", "ZeroDivisionError: no such number.*what the engine logged"),
        ("dies", "last words"),
    ):
        with (
            pytest.raises((PatchError, EngineError), match=words),
            engine_process("echo", Echo, "one", environment={}) as ask,
        ):
            ask(method)
