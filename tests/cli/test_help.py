"""What the program says of itself: help, version, examples, variables, completion; and how quiet it can be."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import typer.main

import autoprune
from autoprune.cli.app import COMMANDS, app
from autoprune.cli.examples import ENVIRONMENT, EXAMPLES
from autoprune.service.client import TOKEN_VARIABLE as TOKEN
from autoprune.service.settings import PREFIX as SERVICE

PROGRAM = typer.main.get_command(app)


def test_the_version(cli):
    assert cli("--version").out == f"autoprune {autoprune.__version__}\n"


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_has_a_short_name_and_ends_in_examples_or_variables(cli, command):
    short, long = cli(*command, "-h"), cli(*command, "--help")
    assert (short.code, short.out) == (0, long.out)
    assert ("Examples:" if command else "AUTOPRUNE_STORAGE") in short.out


@pytest.mark.parametrize(("command", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_examples_are_command_lines(command, line):
    PROGRAM.commands[command].make_context(command, line.split())


def test_every_command_has_an_example():
    assert list(EXAMPLES) == list(COMMANDS)


def test_our_own_environment_variables_are_in_the_help():
    groups = [PROGRAM, *(command for command in PROGRAM.commands.values() if hasattr(command, "commands"))]
    declared = {p.envvar for group in groups for one in group.commands.values() for p in one.params if p.envvar}
    assert declared | {SERVICE, TOKEN} == set(re.findall(r"AUTOPRUNE_\w+", ENVIRONMENT))


def test_defaults_are_shown(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "[default: 16]" in cli("verify", "-h").out
    assert cli("calibrate", "-h").out.count("default: the study's") == 4


def test_a_shell_completes_commands():
    asked = {"_AUTOPRUNE_COMPLETE": "complete_bash", "COMP_WORDS": "autoprune ver", "COMP_CWORD": "1"}
    line = [sys.executable, "-m", "autoprune"]
    done = subprocess.run(line, env={**os.environ, **asked}, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["verify"]


def test_quiet_leaves_results_and_errors(cli, study_folder, tmp_path):
    loud, quiet = cli("report", study_folder), cli("report", study_folder, "-q")
    assert "written" in loud.err
    assert quiet.err == ""
    assert quiet.out == loud.out
    assert "error: run" in cli("report", tmp_path / "nowhere", "--quiet").err
    assert "written" in cli("report", study_folder).err
