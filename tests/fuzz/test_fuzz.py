"""Spoilt inputs over all commands: a result, or one clear error, in reasonable time; never a traceback or a hang.

``AUTOPRUNE_FUZZ_SEED`` sets the seed, and ``AUTOPRUNE_FUZZ_ONLY`` the number of the one case to run.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from safetensors.numpy import load_file
from support.fronts import make_front
from support.fuzzing.cases import COMMANDS, Case, good_case, make_case
from support.scenes import save_answered_rows, save_tiny
from typer.testing import CliRunner

from autoprune.cli.app import run

SEED = int(os.environ.get("AUTOPRUNE_FUZZ_SEED", "0"))
ONLY = os.environ.get("AUTOPRUNE_FUZZ_ONLY")
QUICK, ALL, BLOCK, PROCESSES = 60, 1_000, 100, 30
LIMIT_S = 90
program = typer.Typer(add_completion=False)


@program.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def call(context: typer.Context) -> None:
    raise typer.Exit(run(context.args))


class Hung(BaseException):
    """Passes every ``except Exception``."""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    save_tiny(folder / "model", eos_bias=2.5)
    save_answered_rows(folder, folder / "model", count=8)
    book = folder / "book.safetensors"
    line = f"codebook {folder / 'model'} --data {folder / 'data.jsonl'} -o {book} --variant paper --probes 8"
    assert run(shlex.split(line)) == 0
    (folder / "prototypes").write_text(str(sum(map(len, load_file(book).values()))))
    (folder / "run").mkdir()
    (folder / "run" / "front.json").write_text(json.dumps(make_front(trials=24)))
    return folder


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def in_process(case: Case, monkeypatch: pytest.MonkeyPatch) -> Answer:
    monkeypatch.chdir(case.folder)
    with within(LIMIT_S):
        result = CliRunner().invoke(program, [*shlex.split(case.line), "--json"], prog_name="fuzz")
    if isinstance(result.exception, Exception):
        return Answer(-1, result.stdout, f"Traceback: {result.exception!r}")
    return Answer(result.exit_code, result.stdout, result.stderr)


def as_process(case: Case) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "autoprune", *shlex.split(case.line), "--json"],
        cwd=case.folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", timeout=2 * LIMIT_S,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


def fault_of(answer: Answer) -> str | None:
    """What is wrong with an answer to a spoilt input; None if nothing is."""
    both = answer.out + answer.err
    if "Traceback" in both:
        return "a traceback"
    if "bug in autoprune" in both or "bug of autoprune" in both:
        return "an input is called a bug"
    if answer.code not in (0, 1, 2):
        return f"exit {answer.code}"
    try:
        told = json.loads(answer.out)
    except ValueError:
        return "stdout is not one object"
    if answer.code == 2 and not told["error"]["message"]:
        return "it is refused without a word"
    if answer.code == 1 and "error" in told:
        return "a bad input is told as a job that failed"
    if len(both) > 200_000:
        return f"{len(both):,} characters of output"
    return None


def faults(
    numbers: range, good: Path, base: Path, monkeypatch: pytest.MonkeyPatch, *, processes: bool = False
) -> list[str]:
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it where something was found
    found = []
    for number in numbers if ONLY is None else [int(ONLY)]:
        case = make_case(number, SEED, good, base / str(number))
        try:
            answer = as_process(case) if processes else in_process(case, monkeypatch)
            fault = fault_of(answer)
        except (Hung, subprocess.TimeoutExpired):
            answer, fault = Answer(-1, "", ""), "a hang"
        if fault:
            found.append(f"seed {SEED}, case {number}: {fault}; {case.told}; {case.line}\n  {answer.err[-400:]}")
            print(found[-1])  # noqa: T201
    return found


@pytest.mark.parametrize(
    ("kind", "line"), [(kind, line) for kind in COMMANDS if kind != "image" for line in COMMANDS[kind]]
)
def test_what_is_not_spoilt_gives_a_result(kind, line, good, tmp_path, monkeypatch):
    answer = in_process(good_case(kind, line, good, tmp_path), monkeypatch)
    assert answer.code == 0, answer.err


def test_a_few_spoilt_inputs(good, tmp_path, monkeypatch):
    assert not faults(range(QUICK), good, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("start", range(0, ALL, BLOCK))
def test_spoilt_inputs(start, good, tmp_path, monkeypatch):
    assert not faults(range(start, start + BLOCK), good, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_spoilt_inputs_of_real_processes(good, tmp_path, monkeypatch):
    assert not faults(range(ALL, ALL + PROCESSES), good, tmp_path, monkeypatch, processes=True)
