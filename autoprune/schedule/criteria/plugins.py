"""Criteria of other packages: entry points of the group ``autoprune.criteria``, loaded when a schedule names one."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ValidationError

from autoprune.errors import ScheduleError
from autoprune.schedule.criteria.declaration import Criterion

GROUP = "autoprune.criteria"


class PluginCriterion(Criterion):
    """Base of a criterion from another package, named ``vendor/name``.

    Besides the declaration, a subclass brings its behaviour as two static methods: ``score(inputs) -> FloatTensor[B,
    S]``, higher = kept first, where `inputs` is an `autoprune.runtime.criteria.ScoreInputs`; and ``macs(n_candidates,
    n_rows, width, heads, options) -> int``, the multiply-adds of scoring one sample. It is offered by an entry point of
    the group ``autoprune.criteria`` under its name.

    Attributes:
        requires: The distribution that brings it, such as ``vendor-package>=1.2``; filled in when it is loaded.
    """

    requires: str = ""


def plugin_names() -> list[str]:
    """Names of the criteria that installed packages bring."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def plugin_criterion(values: dict[str, Any]) -> PluginCriterion:
    """A criterion of another package from its JSON object.

    Args:
        values: The object, with its `name` and, where it was saved, `requires`.

    Raises:
        ScheduleError: the package is not installed or too old, two packages bring the name, or the values are wrong.
    """
    kind, distribution = _load(str(values["name"]), str(values.get("requires") or ""))
    try:
        return kind.model_validate({"requires": distribution, **values})
    except ValidationError as error:
        findings = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ScheduleError(" | ".join(findings), field="criterion", value=values["name"]) from None


def _load(name: str, requires: str) -> tuple[type[PluginCriterion], str]:
    """The class behind a name, and the distribution that brings it as a requirement."""
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise ScheduleError(
            "no installed package brings this criterion",
            field="criterion.name",
            value=name,
            remedy=f"pip install '{requires}'" if requires else f"install the package of {name.partition('/')[0]}",
        )
    if len(found) > 1:
        owners = sorted({point.dist.name if point.dist else "?" for point in found})
        raise ScheduleError(
            f"several packages bring this criterion: {', '.join(owners)}",
            field="criterion.name",
            value=name,
            remedy="uninstall all but one",
        )
    (point,) = found
    _check_version(point, name, requires)
    return _kind(point), f"{point.dist.name}>={point.dist.version}" if point.dist else ""


def _check_version(point: EntryPoint, name: str, requires: str) -> None:
    if not requires or point.dist is None:
        return
    try:
        wanted = Requirement(requires)
    except InvalidRequirement:
        raise ScheduleError(
            "is no requirement such as 'vendor-package>=1.2'", field="criterion.requires", value=requires
        ) from None
    if not wanted.specifier.contains(point.dist.version, prereleases=True):
        raise ScheduleError(
            f"{name} is installed in version {point.dist.version} only",
            field="criterion.requires",
            value=requires,
            remedy=f"pip install '{requires}'",
        )


@cache
def _kind(point: EntryPoint) -> type[PluginCriterion]:
    kind: Any = point.load()
    ours = isinstance(kind, type) and issubclass(kind, PluginCriterion)
    if not ours or not all(callable(getattr(kind, method, None)) for method in ("score", "macs")):
        raise ScheduleError(
            "must be a subclass of autoprune.schedule.PluginCriterion with static methods score and macs",
            field=f"entry point {point.name} of group {GROUP}",
            value=point.value,
            remedy="correct the package that brings it",
        )
    loaded: type[PluginCriterion] = kind
    return loaded
