"""A package with plug-ins (`plugin_package`), put on the path as an installer would, without one."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "plugin_package"


def unpack(folder: Path, name: str = "acme-pruning", version: str | None = None) -> Path:
    """The package and its dist-info in a folder that can stand on ``sys.path`` or ``PYTHONPATH``.

    Args:
        folder: Where to; must not exist.
        name: Name of the distribution; a second one that brings the same entry points makes them ambiguous.
        version: Of the distribution; None = the one in ``pyproject.toml``.
    """
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(SOURCE / "acme_pruning", folder / "acme_pruning", ignore=shutil.ignore_patterns("__pycache__"))
    version = version or project["version"]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str = "acme-pruning", version: str | None = None
) -> None:
    """Makes the package importable, and its entry points known, until the end of the test."""
    monkeypatch.syspath_prepend(str(unpack(folder, name, version)))
    for module in [m for m in sys.modules if m.partition(".")[0] == "acme_pruning"]:
        monkeypatch.delitem(sys.modules, module)
