"""Every kind of model with which transformers reads images is in the contract suite or refused; the README tells."""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from support.refused import REFUSED
from support.versions import needs
from support.zoo import FAMILIES, HYBRIDS, Row
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

pytestmark = needs("5.23", "the README tells of newer families too")

README = Path(__file__).parents[2] / "README.md"
ROWS = {**FAMILIES, **HYBRIDS}
REFUSED_BY_TEXT_MODEL = {"gemma3n"}  # test_structure.py
UNTESTED = {"fast_vlm"}  # its tower needs timm


@cache
def kinds() -> dict[str, tuple[str, str]]:
    """Model type of the whole and of the text model, for each row."""
    configs: dict[str, Any] = {name: row.build().model.config for name, row in ROWS.items()}
    return {name: (c.model_type, c.get_text_config(decoder=True).model_type) for name, c in configs.items()}


def about(row: Row) -> str:
    """What the family's file says of it, without the names."""
    build = row.build.func if isinstance(row.build, partial) else row.build
    first = (sys.modules[build.__module__].__doc__ or "").split("\n")[0]
    return first.partition(": ")[2].rstrip(".")


def family_lines() -> list[str]:
    """Families that differ in nothing told here share a line."""
    names, inputs = defaultdict(set), defaultdict(set)
    for name, row in ROWS.items():
        kind, text = kinds()[name]
        names[text, about(row)].add(kind)
        inputs[text, about(row)].add(row.inputs)
    lines = [f"| {joined(names[key])} | {key[0]} | {joined(inputs[key])} | {key[1]} |" for key in names]
    return sorted(lines)


def refusal_lines() -> list[str]:
    names = defaultdict(set)
    for kind, refused in REFUSED.items():
        names[refused.reason].add(kind)
    return sorted(f"| {joined(names[reason])} | {reason} |" for reason in names)


def joined(words: set[str]) -> str:
    return ", ".join(sorted(words))


def test_every_kind_is_exact_or_refused() -> None:
    exact = {kind for pair in kinds().values() for kind in pair}
    others = set(REFUSED) | REFUSED_BY_TEXT_MODEL | UNTESTED
    assert not set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - exact - others
    assert not exact & others


def test_the_readme_lists_them() -> None:
    section = README.read_text().split("\n## Model families\n")[1].split("\n## ")[0]
    heads = ("| Model type | Text", "| Refused")
    told = [line for line in section.split("\n") if line.startswith("| ") and not line.startswith(heads)]
    assert told == family_lines() + refusal_lines()
    assert all(f"`{name}`" in section for name in REFUSED_BY_TEXT_MODEL | UNTESTED)
