"""What a study will need besides its model, tried before it: output folder, database, home."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from autoprune.errors import StudyError
from autoprune.search.lock import claimed_folder
from autoprune.search.spec import StudySpec
from autoprune.search.storage import try_database
from autoprune.search.workers.private_ray import ray_token
from autoprune.sources import is_path


def rehearse(spec: StudySpec) -> None:
    """Tries to write to the output folder, the database, the cache of the hub and Ray's place at home; nothing stays.

    Cache and home are tried only where something will be written there.

    Raises:
        StudyError: one of them cannot be written, holds another study, or is in use.
        StorageError: the server of the database is away, or its disk is full.
    """
    from huggingface_hub import constants

    with claimed_folder(spec.output_path, spec.name):
        _try_folder(spec.output_path, "output")
        try_database(spec.storage_url)
    places = [spec.model.path, *(data.path for data in (spec.data.calibration, spec.data.validation) if data)]
    if not all(is_path(place) for place in places):
        _try_folder(Path(constants.HF_HOME), "HF_HOME")
    if spec.workers.count and not os.environ.get("RAY_ADDRESS") and not os.path.exists(token := ray_token()):
        _try_folder(token.parent, "HOME")


def _try_folder(folder: Path, field: str) -> None:
    """Tries to write into a folder, or into what it would be made in."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise StudyError(
            f"cannot be written: {error.strerror}", field=field, value=str(folder), remedy="choose another folder"
        ) from None
