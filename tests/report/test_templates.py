"""Pages are made by templates that escape every value, and the templates are shipped."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import autoprune
from autoprune.report.rendering import render

PACKAGE = Path(autoprune.__file__).parent
TEMPLATES = PACKAGE / "report" / "templates"
PAGES = sorted(p.name for p in TEMPLATES.glob("*.j2") if "<!doctype" in p.read_text(encoding="utf-8"))


def test_no_python_file_builds_html():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.search(r"</\w+>|<(p|td|div|span|svg|rect|b|br|h\d)\b[^|]*>", text):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_switches_no_escaping_off(name):
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    assert "safe" not in re.findall(r"\|\s*(\w+)", source)
    assert "autoescape" not in source
    assert not re.search(r'(?:src|href)="(?!data:)', source)


def test_values_are_escaped():
    page = render("ablation.html.j2", title="<script>alert(1)</script>", lead="a & b", sections=[])
    assert "<script>" not in page
    assert "a &amp; b" in page


def test_every_file_beside_the_code_is_package_data():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    globs = project["tool"]["setuptools"]["package-data"]
    folders = {PACKAGE.parent / room.replace(".", "/"): patterns for room, patterns in globs.items()}
    shipped = {path for folder, patterns in folders.items() for pattern in patterns for path in folder.glob(pattern)}
    other = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
    assert other <= shipped
