"""What a request may name: files and folders below the roots, names on the hub that are allowed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from autoprune.data.samples import SampleSet
from autoprune.errors import DataError, StudyError
from autoprune.schedule.files import real_path
from autoprune.service.settings import Settings


def check_place(field: str, value: str, settings: Settings) -> None:
    """A path below the roots once links are resolved, or an allowed name on the hub.

    Raises:
        StudyError: it is neither.
    """
    try:
        place = real_path(settings.roots[0].resolve() / os.path.expanduser(value))
        exists = place.exists()
    except (OSError, ValueError, RuntimeError):  # too long, or with a character that no file system takes
        raise StudyError(
            "cannot be a path", field=field, value=value, remedy="check its length and characters"
        ) from None
    if any(fnmatch(value, pattern) for pattern in settings.hub) and not exists:
        return
    if not _is_inside(place, settings):
        raise StudyError(
            "lies outside of the folders that this service reads",
            field=field,
            value=value,
            remedy="use a path inside of them; relative paths start at the first one",
        )
    if not exists:
        raise StudyError(
            "is no file or folder of this service, and no name that it may take from the hub",
            field=field,
            value=value,
            remedy="check the path, or ask the operator to allow the name",
        )


def check_rows(field: str, rows: SampleSet, settings: Settings) -> None:
    """Rows as many as a data set may have, whose images and videos lie below the roots.

    Raises:
        StudyError: there are too many.
        DataError: a row names a file outside of the roots.
    """
    if len(rows) > settings.most_rows:
        raise StudyError(
            "has more rows than this service allows",
            field=field,
            value=len(rows),
            remedy=f"use at most {settings.most_rows}; `samples` draws some",
        )
    for number, sample in enumerate(rows):
        frames = [frame for video in sample.videos for frame in video.frames]
        for image in (*sample.images, *frames):
            if image.path is not None and not _is_inside(image.path.resolve(), settings):
                raise DataError(
                    f"row {number} names a file outside of the folders that this service reads",
                    field=field,
                    value=image.path.name,
                    remedy="move it below one of them",
                )


def check_places(request: Any, settings: Settings, field: str = "") -> None:
    """Every ``path`` in a request, however deep, as `check_place`.

    Raises:
        StudyError: one of them may not be read.
    """
    if isinstance(request, list):
        for place, part in enumerate(request):
            check_places(part, settings, f"{field}[{place}]")
    elif isinstance(request, dict):
        for key, part in request.items():
            name = f"{field}.{key}" if field else str(key)
            if key == "path" and isinstance(part, str):
                check_place(name, part, settings)
            else:
                check_places(part, settings, name)


def check_code(request: Mapping[str, Any], settings: Settings) -> None:
    """No code that a checkpoint brings, unless the operator allows it.

    Raises:
        StudyError: the request asks for it.
    """
    model = request.get("model")
    if isinstance(model, Mapping) and model.get("trust_remote_code") and not settings.trust_remote_code:
        raise StudyError("is not allowed by this service", field="model.trust_remote_code", remedy="ask its operator")


def _is_inside(place: Path, settings: Settings) -> bool:
    return any(place.is_relative_to(root.resolve()) for root in settings.roots)
