"""The fronts that studies left, read once for as long as their files stay the same."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from autoprune.search.front import FrontFile
from autoprune.service.api.problems import not_left
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import JobRecord


def front_of(job: JobRecord, settings: Settings) -> FrontFile | None:
    """The front of a study; None as long as there is none.

    Raises:
        StudyError: the file is no front.
    """
    folder = settings.output_of(job.id)
    try:
        stat = (folder / "front.json").stat()
    except FileNotFoundError:
        return None
    return _loaded(folder, stat.st_mtime_ns, stat.st_size)


def needed_front(job: JobRecord, settings: Settings) -> FrontFile:
    """The front of a study.

    Raises:
        NotThereError: there is none.
        StudyError: the file is no front.
    """
    if (front := front_of(job, settings)) is None:
        raise not_left(job)
    return front


@lru_cache(maxsize=16)
def _loaded(folder: Path, mtime_ns: int, size: int) -> FrontFile:
    return FrontFile.load(folder)
