"""What the README says is what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from autoprune import presets
from autoprune.cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = typer.main.get_command(app)


def options(command: str) -> list[str]:
    found = [o for parameter in PROGRAM.commands[command].params for o in parameter.opts if o.startswith("--")]
    return [o for o in found if o != "--help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_table(command):
    row = next(line for line in README.splitlines() if line.startswith(f"| `autoprune {command}"))
    for option in options(command):
        assert f"`{option}`" in row or option in ("--json", "--debug"), option
    assert "`--json`" in README
    assert "`--debug`" in README


def test_no_command_is_promised_that_does_not_exist():
    assert set(re.findall(r"^\| `autoprune ([\w-]+)", README, re.M)) == set(COMMANDS)


def test_every_preset_is_in_the_table():
    table = README[README.index("### Presets") : README.index("## The study file")]
    assert all(f"`{name}`" in table for name in presets.NAMES)


def test_the_tree_names_every_file_and_no_other():
    tree = README[README.index("```\nautoprune/") :]
    tree = tree[: tree.index("\nstudies/")]
    named = {line.split()[0] for line in tree.splitlines()[2:]}
    package = ROOT / "autoprune"
    there = {p.name for p in package.rglob("*") if p.suffix in (".py", ".html", ".css", ".js", ".json")}
    rooms = {f"{p.parent.name}/" for p in package.rglob("*/__init__.py")}
    wanted = (there - {"__init__.py"}) | rooms
    assert not wanted - named, "the tree in README.md lacks these files: give each a line"
    assert not named - wanted, "the tree in README.md names files that are gone"


def test_the_set_up_commands_name_files_and_extras_that_exist():
    for path in re.findall(r"(?:-c |calibrate )([a-z_/]+\.(?:txt|yaml))", README):
        assert path == "study.yaml" or (ROOT / path).is_file(), path
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in set(",".join(re.findall(r"\.\[([\w,]+)\]", README)).split(",")):
        assert re.search(rf"^{extra} = \[", project, re.M), extra


def test_the_sixty_seconds_work():
    code = README[README.index("## Sixty seconds") :].split("```python\n")[1].split("```")[0]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answer, tokens = ran.stdout.strip().split("\n", 1)
    assert answer
    counts = [int(n) for n in re.findall(r"\d+", tokens)]
    assert counts[0] > counts[-1] > 0
