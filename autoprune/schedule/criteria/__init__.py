"""The table of criteria: one declaration each; the behaviour has the same name in ``autoprune.runtime.criteria``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationError, WrapValidator

from autoprune.errors import ScheduleError
from autoprune.schedule.criteria.attention import AttentionCriterion
from autoprune.schedule.criteria.codebook import CodebookCriterion
from autoprune.schedule.criteria.declaration import COUNTS, Color, Criterion, KeepKind, Reads
from autoprune.schedule.criteria.diversity import DiversityCriterion
from autoprune.schedule.criteria.encoder import EncoderCriterion
from autoprune.schedule.criteria.plugins import GROUP, PluginCriterion, load_criterion
from autoprune.schedule.criteria.random import RandomCriterion
from autoprune.schedule.criteria.uniform import UniformCriterion
from autoprune.schedule.plugins import plugin_names
from autoprune.schedule.validation import INSIDE, explained

CRITERIA: tuple[type[Criterion], ...] = (
    AttentionCriterion,
    EncoderCriterion,
    DiversityCriterion,
    CodebookCriterion,
    RandomCriterion,
    UniformCriterion,
)
"""The criteria of this package: one more is one more row."""
NAMES: frozenset[str] = frozenset(kind.model_fields["name"].default for kind in CRITERIA)


def _either(value: Any, built_in: Callable[[Any], Criterion]) -> Criterion:
    """A criterion of the table by pydantic, one of another package by its own class."""
    if isinstance(value, PluginCriterion):
        return value if value.is_brought else value.brought_by(load_criterion(value.name, value.requires)[1])
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and "/" in name:
            kind, plugin = load_criterion(name, str(value.get("requires") or ""))
            try:
                return kind.model_validate(dict(value)).brought_by(plugin)
            except ValidationError as error:
                # By its own class, so that a remedy names its own options.
                raise explained(error, kind, ScheduleError, INSIDE) from None
        if not isinstance(name, str):
            known = ", ".join(sorted(NAMES))
            raise ScheduleError(f"needs a name: {known}, or vendor/name of an installed package", value=name)
        if name not in NAMES:
            raise ScheduleError("no such criterion", value=name, remedy=_nearest(name, NAMES))
    return built_in(value)


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted({*known, *plugin_names(GROUP)})
    near = difflib.get_close_matches(name, names, 1)
    return f"use {near[0]}" if near else f"use {', '.join(names)}, or vendor/name of an installed package"


if TYPE_CHECKING:
    AnyCriterion = Criterion
else:
    AnyCriterion = Annotated[
        SerializeAsAny[Annotated[Union[CRITERIA], Field(discriminator="name")]],  # noqa: UP007 - made from the table
        WrapValidator(_either),
    ]
"""A criterion as a field of a model: one of the table by its name, or ``vendor/name`` of an installed package."""

_CRITERION: TypeAdapter[Criterion] = TypeAdapter(AnyCriterion)
SHORT_NAMES: dict[str, dict[str, Any]] = {
    short: options for kind in CRITERIA for short, options in kind.short_names.items()
}
"""What may stand for a criterion in a study file, with the options that it stands for."""


def parse_criterion(obj: str | dict[str, Any]) -> Criterion:
    """A criterion from its short name (``text``, ``random``, ``vendor/name`` …) or from its JSON object.

    Raises:
        ScheduleError: unknown name, unknown key or bad value.
    """
    if isinstance(obj, str):
        if obj not in SHORT_NAMES and "/" not in obj:
            raise ScheduleError("no such criterion", field="criterion", value=obj, remedy=_nearest(obj, SHORT_NAMES))
        obj = SHORT_NAMES.get(obj, {"name": obj})
    try:
        return _CRITERION.validate_python(obj)
    except ValidationError as error:
        raise explained(error, AnyCriterion, ScheduleError, "criterion") from None


__all__ = [
    "COUNTS",
    "CRITERIA",
    "SHORT_NAMES",
    "AnyCriterion",
    "AttentionCriterion",
    "CodebookCriterion",
    "Color",
    "Criterion",
    "DiversityCriterion",
    "EncoderCriterion",
    "KeepKind",
    "PluginCriterion",
    "RandomCriterion",
    "Reads",
    "UniformCriterion",
    "parse_criterion",
]
