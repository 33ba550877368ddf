"""The table of model families in autoprune/runtime/README.md, as tests read it."""

from __future__ import annotations

from pathlib import Path

MANUAL = (Path(__file__).parents[2] / "autoprune" / "runtime" / "README.md").read_text(encoding="utf-8")
SECTION = MANUAL.split("\n## Model families\n")[1].split("\n## ")[0]


def table(head: str) -> list[list[str]]:
    """The rows of the table of the section that starts with this head."""
    lines = SECTION[SECTION.index(head) :].split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


FAMILY_ROWS = table("| Model type | Text model |")
EXACT = {(kind, text) for kinds, text, *_ in FAMILY_ROWS for kind in kinds.split(", ")}
CALIBRATE = {(kind, text): cell for kinds, text, _, cell, _ in FAMILY_ROWS for kind in kinds.split(", ")}
"""How schedules are scored on a family."""
KINDS = {kind for kind, _ in EXACT}


def kind_of(row: str) -> str:
    """The model type of a zoo row, whose name may add what its variant is (``qwen2_vl_video``) or be its text model."""
    by_text = {text: kind for kind, text in EXACT}
    return next(name for name in (row, row.rpartition("_")[0], by_text.get(row, "")) if name in KINDS)
