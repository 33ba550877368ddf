"""Plug-ins: entry points of installed packages, named ``vendor/name`` and loaded when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from autoprune.errors import AutopruneError


@dataclass(frozen=True)
class Plugin:
    """Entry point of an installed package.

    Attributes:
        loaded: The object behind the entry point.
        where: The entry point in words, for errors about the object.
        value: The object's place, such as ``vendor.module:Name``.
        distribution: The package; empty where it has no metadata.
        version: Of the package.
    """

    loaded: Any
    where: str
    value: str
    distribution: str
    version: str

    @property
    def requirement(self) -> str:
        """The package in at least this version, such as ``vendor-package>=1.2``."""
        # Without a local label such as +cu121, which no requirement may name.
        return f"{self.distribution}>={Version(self.version).public}" if self.distribution else ""


def plugin_names(group: str) -> list[str]:
    """Names ``vendor/name`` that installed packages offer in a group of entry points."""
    return sorted({point.name for point in entry_points(group=group) if point.name.count("/") == 1})


def load_plugin(group: str, name: str, requires: str, what: str, raised: type[AutopruneError]) -> Plugin:
    """The plug-in of this name.

    Args:
        group: Group of entry points.
        name: ``vendor/name``.
        requires: The requirement noted where it was named before, such as ``vendor-package>=1.2``, or empty.
        what: What it is, in words; also the field of the errors.
        raised: Class of the errors.

    Raises:
        AutopruneError: no installed package offers it, another or a too old one does, several do, or it cannot be
            imported.
    """
    found = list(entry_points(group=group, name=name))
    remedy = f"pip install '{requires}'" if requires else f"install the package of {name.partition('/')[0]!r}"
    if not found:
        others = plugin_names(group)
        known = f"; installed are {', '.join(others)}" if others else ""
        raise raised(f"no installed package brings this {what}", field=what, value=name, remedy=remedy + known)
    owners = sorted({point.dist.name if point.dist else "?" for point in found})
    if len(found) > 1:
        raise raised(
            f"several packages bring this {what}: {', '.join(owners)}",
            field=what,
            value=name,
            remedy="uninstall all but one",
        )
    (point,) = found
    if requires and not _satisfied(point, requires, what, raised):
        raise raised(
            f"{name} is installed from {owners[0]} {point.dist.version if point.dist else ''} instead",
            field=what,
            value=requires,
            remedy=remedy,
        )
    where = f"entry point {name} of group {group}"
    try:
        loaded = point.load()
    except Exception as error:  # importing the code of another package may raise anything
        reason = f"cannot be imported: {error}"
        raise raised(reason, field=where, value=point.value, remedy=f"reinstall or correct {owners[0]}") from error
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Plugin(loaded, where, point.value, distribution, version)


def _satisfied(point: EntryPoint, requires: str, what: str, raised: type[AutopruneError]) -> bool:
    try:
        wanted = Requirement(requires)
    except InvalidRequirement:
        raise raised("is no requirement such as 'vendor-package>=1.2'", field=what, value=requires) from None
    if point.dist is None:
        return True
    same = canonicalize_name(wanted.name) == canonicalize_name(point.dist.name)
    return same and wanted.specifier.contains(point.dist.version, prereleases=True)
