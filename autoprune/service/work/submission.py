"""A submitted study: checked against what this service allows, before anything is read for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune import presets
from autoprune.errors import StudyError
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import codebooks_of
from autoprune.search.spec import StudySpec
from autoprune.service.settings import STUDY_KEYS, Settings
from autoprune.service.work.places import check_code, check_place, check_places

_SHORT_NAMES = 200


def checked(request: Mapping[str, Any], settings: Settings, job_id: str = "new") -> StudySpec:
    """The study that a request describes, as a driver of this service runs it.

    Raises:
        StudyError: it names what is the service's to decide, leaves the folders it may read, or is no study.
    """
    for key in STUDY_KEYS:
        if key in request:
            raise StudyError("is set by the service", field=key, remedy="leave it out")
    check_places(dict(request), settings)
    baselines = request.get("baselines")
    for place, name in enumerate(baselines if isinstance(baselines, list) else []):
        if isinstance(name, str) and name not in presets.NAMES:
            check_place(f"baselines[{place}]", name, settings)
    check_code(request, settings)
    storage = settings.database_url if settings.on_server else None
    spec = StudySpec.load(request, base=settings.roots[0], output=settings.output_of(job_id), storage=storage)
    for file in spec.baseline_files:
        for codebook in codebooks_of(Schedule.load(file)):
            check_place("baselines", codebook.path, settings)
    if len(spec.name) > _SHORT_NAMES:
        raise StudyError("is too long", field="name", value=spec.name, remedy=f"use at most {_SHORT_NAMES} characters")
    _check_most("search.trials", spec.search.trials, settings.most_trials)
    _check_most("workers.count", spec.workers.count, settings.most_workers)
    return spec


def _check_most(field: str, value: int, most: int) -> None:
    if value > most:
        raise StudyError("is more than this service allows", field=field, value=value, remedy=f"use at most {most}")
