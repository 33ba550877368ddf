"""Rows of the zoo as parameters of tests: families beyond the core carry the marker `wide`."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from support.zoo import FAMILIES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KINDS

VARIANTS = ("_video", "_moe", "_olmo")
"""What a row's name may say beyond the model type."""


def absent(name: str) -> bool:
    """Whether the installed transformers does not have this family."""
    return all(kind not in KINDS for kind in (name, *(name.removesuffix(variant) for variant in VARIANTS)))


def families() -> list[Any]:
    """The names of all families."""
    return [pytest.param(name, marks=_marks(name, row.without.get("all"))) for name, row in FAMILIES.items()]


def families_with(choices: Any) -> list[Any]:
    """Pairs (family, choice) of all families, `choices(row)` being those of a family."""
    return [
        pytest.param((name, choice), id=f"{name}-{choice}", marks=_marks(name, row.without.get("all")))
        for name, row in FAMILIES.items()
        for choice in choices(row)
    ]


def families_in(mode: str) -> list[Any]:
    """The names of the families that go through the modes of generation; those without this one are skipped."""
    rows = {name: row for name, row in FAMILIES.items() if row.modes}
    return [pytest.param(name, marks=_marks(name, row.without.get(mode))) for name, row in rows.items()]


def _marks(name: str, skip: pytest.MarkDecorator | None = None) -> list[pytest.MarkDecorator]:
    missing = pytest.mark.skipif(absent(name), reason=f"transformers {transformers.__version__} has no {name}")
    return [*([] if FAMILIES[name].core else [pytest.mark.wide]), *([skip] if skip else []), missing]
