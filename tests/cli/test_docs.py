"""What the manuals say is what the program does: commands, options, presets, study keys, links and code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from support.engine_table import refused_table, where_table
from support.studies import write_study

from autoprune import presets
from autoprune.cli.app import COMMANDS, GROUPS, app
from autoprune.data.rows import FIELDS
from autoprune.models.options import ModelOptions
from autoprune.schedule.criteria import CRITERIA, SHORT_NAMES
from autoprune.search.spec import StudySpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_MANUAL = (ROOT / "autoprune" / "cli" / "README.md").read_text(encoding="utf-8")
STUDY_MANUAL = (ROOT / "autoprune" / "search" / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
STUDY = yaml.safe_load(STUDY_MANUAL.split("```yaml\n")[1].split("```")[0])
MANUALS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(p for d in (".github", "autoprune", "studies", "tests") for p in (ROOT / d).rglob("*.md")),
    ]
)
PROGRAM = typer.main.get_command(app)


def options(command: str) -> set[str]:
    """Of a command, or of all commands of a group."""
    named = PROGRAM.commands[command]
    members = getattr(named, "commands", {command: named}).values()
    found = {o for one in members for parameter in one.params for o in parameter.opts if o.startswith("--")}
    return found - {"--help", "--json", "--debug", "--quiet"}


def section(command: str) -> str:
    """What the manual says of a command."""
    (text,) = re.findall(rf"^## `autoprune {command}[ `].*?(?=^## |\Z)", COMMAND_MANUAL, re.M | re.S)
    return text


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


OPTION = r"(?<![\w-])--[a-z][a-z0-9-]*"
NO_RESULT = {"serve": {"--json"}, "runner": {"--json"}, "dashboard": {"--json"}}
LOADING = {"--" + name.replace("_", "-") for name in ModelOptions.model_fields}
READING = {"--split", "--data-config", "--columns", "--samples", "--seed"}


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_and_option_is_in_the_manual_and_no_other(command):
    shared = LOADING | (READING - {"--samples"} if command == "transfer" else READING)
    text = re.sub(r"```.*?```", "", section(command), flags=re.S)  # an example may be a line of another command
    described = set(re.findall(OPTION, text)) - READING - LOADING
    assert described == options(command) - shared


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_of_a_group_is_in_the_head_of_its_section(group):
    head = section(group).splitlines()[0]
    assert re.findall(r"(?<=[ `|])[a-z]+\b(?!\.)", head.split(f"autoprune {group}")[1]) == list(GROUPS[group][1])


@pytest.mark.parametrize("command", PROGRAM.commands)
def test_every_command_takes_the_options_of_all(command):
    named = PROGRAM.commands[command]
    for one in getattr(named, "commands", {command: named}).values():
        taken = {o for parameter in one.params for o in parameter.opts}
        assert taken >= {"--debug", "--quiet", "-q"} | ({"--json"} - NO_RESULT.get(command, set())), one.name


def test_every_command_that_loads_a_model_has_all_options_of_a_model_and_its_data():
    common = set(re.findall(OPTION, COMMAND_MANUAL[: COMMAND_MANUAL.index("\n## ")]))
    assert common >= LOADING | READING
    for command in set(COMMANDS) - {"calibrate", "report", "export", "presets", "dashboard", "serve", "runner"}:
        assert options(command) >= LOADING, command
        if "--data" in options(command):
            assert options(command) >= READING - ({"--samples"} if command == "transfer" else set()), command


def test_every_command_is_in_the_readme_and_no_other():
    assert re.findall(r"^\| `autoprune ([\w-]+)", README, re.M) == re.findall(
        r"^## `autoprune ([\w-]+)", COMMAND_MANUAL, re.M
    )
    assert set(re.findall(r"^\| `autoprune ([\w-]+)", README, re.M)) == set(PROGRAM.commands)
    assert all(f"`{option}`" in COMMAND_MANUAL for option in ("--json", "--debug", "--help", "--quiet"))


def test_every_preset_is_in_the_readme_and_in_the_table_of_the_manual_and_no_other():
    named = README[README.index("\n## Presets") : README.index("\n## Where schedules run")]
    assert set(re.findall(r"`(\w+)`", named)) == set(presets.NAMES)
    rows = [line.split("|")[1] for line in section("presets").splitlines() if line.startswith("| ")][1:]
    assert set(re.findall(r"`(\w+)`", " ".join(row for row in rows if "from" not in row))) == set(presets.NAMES)


def test_the_tables_of_engines_are_what_the_engines_declare():
    assert f"\n{where_table()}\n\n" in README
    assert f"\n{refused_table()}\n\n" in (ROOT / "autoprune" / "engines" / "README.md").read_text(encoding="utf-8")


def keys(kind: type[BaseModel], at: str = "") -> set[str]:
    """Every key of a section and of the sections inside it."""
    found = set()
    for name, field in kind.model_fields.items():
        inner = [
            k
            for k in (field.annotation, *get_args(field.annotation))
            if isinstance(k, type) and issubclass(k, BaseModel)
        ]
        found |= keys(inner[0], f"{at}{name}.") if inner else {at + name}
    return found


def written(values: dict[str, Any], at: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        found |= written(value, f"{at}{name}.") if isinstance(value, dict) and value else {at + name}
    return found


def test_every_study_key_is_in_the_manual_and_no_other():
    validation = {key for key in keys(StudySpec) if key.startswith("data.validation.")}
    assert validation == {key.replace("calibration", "validation") for key in written(STUDY) if "calibration" in key}
    assert written(STUDY) - {"data.validation"} == keys(StudySpec) - validation


def test_the_study_in_the_manual_shows_the_defaults(tmp_path):
    required = {
        "search": None,
        "workers": None,
        "space": None,
        "baselines": None,
        "name": STUDY["name"],
        "output": STUDY["output"],
    }
    required["data"] = {"calibration": {"path": "calibration.jsonl"}}
    shown = StudySpec.load(write_study(tmp_path, **STUDY))
    assert shown == StudySpec.load(write_study(tmp_path, **required))


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_of_a_criterion_is_in_the_manual(name):
    assert f"`{name}`" in STUDY_MANUAL[: STUDY_MANUAL.index("## Data rows")]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_data_row_is_in_the_manual(field):
    table = STUDY_MANUAL[STUDY_MANUAL.index("## Data rows") : STUDY_MANUAL.index("## What a study leaves")]
    assert f"`{field}`" in "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| "))


@pytest.mark.parametrize("name", sorted(kind.model_fields["name"].default for kind in CRITERIA))
def test_every_criterion_is_in_the_manual_of_the_runtime(name):
    manual = (ROOT / "autoprune" / "runtime" / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in manual[manual.index("## The schedule file") : manual.index("## Generation modes")]


def test_the_recipes_name_files_that_exist():
    recipes = GUIDE.replace("tests/<room>/test_<file>.py", "")
    names = {kind.model_fields["name"].default for kind in CRITERIA}
    paths = set(re.findall(r"`((?:autoprune|tests|studies)/[^` ]+)`", recipes))
    assert {"autoprune/schedule/criteria/<name>.py", "autoprune/runtime/criteria/<name>.py"} <= paths
    for path in paths:
        for filled in {path.replace("<name>", name) for name in names}:
            assert (ROOT / filled).exists(), filled


def test_every_marker_is_in_the_guide():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for marker in project["tool"]["pytest"]["ini_options"]["markers"]:
        assert f"| `{marker.partition(':')[0]}` |" in GUIDE


@pytest.mark.parametrize("path", MANUALS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link


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
