"""An object in another process: its answers, its errors, its end."""

from __future__ import annotations

import os

import pytest
from support.echo import Echo

from autoprune.engines.vllm.comparison.process import EngineError, engine_process
from autoprune.errors import PatchError


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
