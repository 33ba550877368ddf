"""Criteria of other packages: entry points of the group ``autoprune.criteria``, loaded when a schedule names one."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr

from autoprune.errors import ScheduleError
from autoprune.schedule.criteria.declaration import Color, Criterion, Reads
from autoprune.schedule.plugins import Plugin, load_plugin

GROUP = "autoprune.criteria"


class PluginCriterion(Criterion):
    """Base of a criterion from another package, named ``vendor/name``.

    A subclass declares its `name` (``name: Literal["vendor/name"] = "vendor/name"``), its options as further fields,
    `source` and `reads`; all else of `Criterion` has a default. Its behaviour is two static methods:
    ``score(inputs) -> FloatTensor[B, S]``, higher = kept first, where `inputs` is an
    `autoprune.runtime.criteria.ScoreInputs`; and ``macs(n_candidates, n_rows, width, heads, options) -> int``, the
    multiply-adds of scoring one sample. An entry point of the group ``autoprune.criteria`` offers the class under its
    name.

    Attributes:
        requires: The distribution that brings it, such as ``vendor-package>=1.2``; filled in when it is loaded.
    """

    requires: str = ""
    _version: str = PrivateAttr("")

    short_names: ClassVar[dict[str, dict[str, Any]]] = {}

    @property
    def color(self) -> Color:
        """Teal, unless the package chooses another."""
        return Color("#00788a", "#4fc3d3")

    @property
    def phrase(self) -> str:
        """The name, unless the package says it in words."""
        return self.name

    @property
    def recordable(self) -> bool:
        """Only where it reads the vision tower, which does not run again: its scores may depend on what a stage keeps.

        A criterion that reads the tower must therefore not look at `targets`.
        """
        return self.reads is Reads.TOWER

    @property
    def options(self) -> dict[str, Any]:
        """Without the package, which is no option."""
        return {key: value for key, value in super().options.items() if key != "requires"}

    @property
    def identity(self) -> dict[str, Any]:
        """The installed version counts, the one that a schedule asks for at least does not."""
        return {**{k: v for k, v in super().identity.items() if k != "requires"}, "version": self._version}

    @property
    def is_brought(self) -> bool:
        """Whether the installed package was found and noted."""
        return bool(self._version)

    def brought_by(self, plugin: Plugin) -> Self:
        """The same criterion, noting the package that brings it."""
        noted = self.model_copy(update={"requires": self.requires or plugin.requirement})
        noted._version = plugin.version
        return noted


def load_criterion(name: str, requires: str) -> tuple[type[PluginCriterion], Plugin]:
    """The class of a criterion of another package.

    Args:
        name: ``vendor/name``.
        requires: The requirement that a schedule notes, or empty.

    Raises:
        ScheduleError: the package is missing or too old, two bring the name, or the class is no complete criterion.
    """
    plugin = load_plugin(GROUP, name, requires, "criterion", ScheduleError)
    lacks = _lacks(plugin.loaded, name)
    if lacks:
        remedy = f"correct {plugin.distribution or 'the package that brings it'}"
        raise ScheduleError(lacks, field=plugin.where, value=plugin.value, remedy=remedy)
    return plugin.loaded, plugin


def _lacks(kind: Any, name: str) -> str:
    """Parts that a class lacks to be the criterion of this name; empty if none."""
    if not (isinstance(kind, type) and issubclass(kind, PluginCriterion)):
        return "must be a subclass of autoprune.schedule.PluginCriterion"
    if kind.model_fields["name"].default != name:
        return f"must declare its name as in the entry point: name: Literal[{name!r}] = {name!r}"
    if not (kind.model_config.get("frozen") and kind.model_config.get("extra") == "forbid"):
        return "must stay frozen and refuse unknown options"
    methods = [m for m in ("score", "macs") if not isinstance(inspect.getattr_static(kind, m, None), staticmethod)]
    if methods:
        return f"must have the static methods score and macs: {' and '.join(methods)} missing"
    parts = [part for part in ("reads", "source") if getattr(kind, part, None) is getattr(Criterion, part, None)]
    return f"must declare {' and '.join(parts)}" if parts else ""
