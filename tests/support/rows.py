"""Rows of the zoo as parameters of tests: families beyond the core carry the marker `wide`."""

from __future__ import annotations

from typing import Any

import pytest
from support.zoo import FAMILIES


def families() -> list[Any]:
    """The names of all families."""
    return [pytest.param(name, marks=_marks(name)) for name in FAMILIES]


def families_with(choices: Any) -> list[Any]:
    """Pairs (family, choice) of all families, `choices(row)` being those of a family."""
    return [
        pytest.param((name, choice), id=f"{name}-{choice}", marks=_marks(name))
        for name, row in FAMILIES.items()
        for choice in choices(row)
    ]


def families_in(mode: str) -> list[Any]:
    """The names of the families that go through the modes of generation; those without this one are skipped."""
    rows = {name: row for name, row in FAMILIES.items() if row.modes}
    return [pytest.param(name, marks=_marks(name, row.without.get(mode))) for name, row in rows.items()]


def _marks(name: str, skip: pytest.MarkDecorator | None = None) -> list[pytest.MarkDecorator]:
    return [*([] if FAMILIES[name].core else [pytest.mark.wide]), *([skip] if skip else [])]
