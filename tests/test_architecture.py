"""The walls of the house: imports go down only, the base install is lean, the project speaks of itself alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "autoprune"
FLOORS = [
    {"errors"},
    {"sources"},
    {"schedule"},
    {"presets"},
    {"runtime"},
    {"pricing", "data", "models"},
    {"evaluate"},
    {"bench", "doctor"},
    {"analysis"},
    {"search"},
    {"report"},
    {"service", "engines", "hub"},
    {"cli"},
    {"entry"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = {"ray", "optuna", "sqlalchemy", "scipy", "datasets", "plotly", "matplotlib", "fastapi", "typer"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[tuple[str, int]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "autoprune" else [f"autoprune.{a.name}" for a in node.names]
        found |= {(n.split(".")[1], node.lineno) for n in names if n.startswith("autoprune.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for other, line in imported_rooms(path):
        assert other in FLOOR, f"{path}:{line} imports {other}, which has no floor"
        assert other == room or FLOOR[other] < FLOOR[room], f"{path}:{line}: {room} must not import {other}"


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_attributes_of_modules_are_shadowed_in_one_file() -> None:
    writing = [str(path.relative_to(PACKAGE)) for path in FILES if ".__dict__[" in path.read_text(encoding="utf-8")]
    assert writing == ["runtime/replay.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import autoprune; autoprune.Schedule; autoprune.presets.vtw(3)",
        "import autoprune; autoprune.apply; autoprune.cost; autoprune.analysis.withdrawal_kl",
    ],
)
def test_the_base_install_is_lean(code: str) -> None:
    def loaded(statements: str) -> set[str]:
        check = f"{statements}; import sys; print({HEAVY!r} & set(sys.modules) or set())"
        out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
        return set(ast.literal_eval(out.strip())) if "{" in out else set()

    # transformers imports scipy by itself wherever it is installed; what counts is what we add, and that an install
    # without any of them works.
    assert loaded(code) <= loaded("import torch, transformers.modeling_utils")
    without = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); {code}"
    subprocess.run([sys.executable, "-c", without], check=True)


def test_import_loads_no_torch() -> None:
    code = "import autoprune, sys; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
