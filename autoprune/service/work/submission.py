"""A submitted study: checked against what this service allows, before anything is read for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from autoprune import presets
from autoprune.errors import StudyError
from autoprune.search.spec import StudySpec
from autoprune.service.settings import Settings

_OURS = ("output", "storage", "storage_wait")
_SHORT_NAMES = 200


def checked(request: Mapping[str, Any], settings: Settings, job_id: str = "new") -> StudySpec:
    """The study that a request describes, as a driver of this service runs it.

    Raises:
        StudyError: it names what is the service's to decide, leaves the folders it may read, or is no study.
    """
    for key in _OURS:
        if key in request:
            raise StudyError("is set by the service", field=key, remedy="leave it out")
    for field, value in _places(request):
        _check_place(field, value, settings)
    model = request.get("model")
    if isinstance(model, Mapping) and model.get("trust_remote_code") and not settings.trust_remote_code:
        raise StudyError("is not allowed by this service", field="model.trust_remote_code", remedy="ask its operator")
    storage = settings.database_url if settings.on_server else None
    spec = StudySpec.load(request, base=settings.roots[0], output=settings.output_of(job_id), storage=storage)
    if len(spec.name) > _SHORT_NAMES:
        raise StudyError("is too long", field="name", value=spec.name, remedy=f"use at most {_SHORT_NAMES} characters")
    _check_most("search.trials", spec.search.trials, settings.most_trials)
    _check_most("workers.count", spec.workers.count, settings.most_workers)
    return spec


def _places(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Everything in a request that names a file, a folder or something on the hub."""
    sections = [("model", request.get("model"))]
    data = request.get("data")
    if isinstance(data, Mapping):
        sections += [(f"data.{name}", section) for name, section in data.items()]
    space = request.get("space")
    if isinstance(space, Mapping):
        for name in ("criteria", "also"):
            listed = space.get(name)
            for place, one in enumerate(listed if isinstance(listed, list) else []):
                sections.append((f"space.{name}[{place}]", one))
    for field, section in sections:
        if isinstance(section, Mapping) and isinstance(section.get("path"), str):
            yield f"{field}.path", section["path"]
    baselines = request.get("baselines")
    for place, name in enumerate(baselines if isinstance(baselines, list) else []):
        if isinstance(name, str) and name not in presets.NAMES:
            yield f"baselines[{place}]", name


def _check_place(field: str, value: str, settings: Settings) -> None:
    base = settings.roots[0].resolve()
    place = Path(base, Path(value).expanduser()).resolve()
    if any(fnmatch(value, pattern) for pattern in settings.hub) and not place.exists():
        return
    if not any(place.is_relative_to(root.resolve()) for root in settings.roots):
        raise StudyError(
            "lies outside of the folders that this service reads",
            field=field,
            value=value,
            remedy="use a path inside of them; relative paths start at the first one",
        )
    if not place.exists():
        raise StudyError(
            "is no file or folder of this service, and no name that it may take from the hub",
            field=field,
            value=value,
            remedy="check the path, or ask the operator to allow the name",
        )


def _check_most(field: str, value: int, most: int) -> None:
    if value > most:
        raise StudyError("is more than this service allows", field=field, value=value, remedy=f"use at most {most}")
