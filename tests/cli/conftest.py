from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fronts import save_front
from support.scenes import save_answered_rows, save_tiny

from autoprune.cli.app import run
from autoprune.presets import himap


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        assert self.out.count("\n") == 1, f"not one object: {self.out!r}"
        return json.loads(self.out)


@pytest.fixture
def cli(capsys):
    """Run a command line in this process."""

    def call(*argv: object) -> Result:
        code = run([str(a) for a in argv])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def study_folder(tmp_path) -> Path:
    """An output folder with a front."""
    return save_front(tmp_path / "run")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A loadable model with six layers, whose answers have 1 to 8 tokens."""
    return save_tiny(tmp_path_factory.mktemp("tiny"), eos_bias=2.5)


@pytest.fixture(scope="session")
def rows(tiny, tmp_path_factory) -> Path:
    """Twelve rows for it, of which it gets some right."""
    return save_answered_rows(tmp_path_factory.mktemp("rows"), tiny)


@pytest.fixture
def schedule_file(tmp_path) -> Path:
    path = tmp_path / "schedule.json"
    himap(layers=(1, 3), keep=(0.5, 0.25)).save(path)
    return path
