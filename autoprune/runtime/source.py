"""Where an applied schedule comes from: what the caller gives, or the file beside the weights of the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.errors import ScheduleError, ScheduleMissingError
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import SCHEDULE_FILE, files_beside
from autoprune.sources import HubError, RepositoryError, cached_commit, hub_file, is_path

log = logging.getLogger("autoprune")


def schedule_of(
    model: Any, given: Schedule | str | os.PathLike[str] | Mapping[str, Any] | None
) -> tuple[Schedule, Path | None]:
    """The schedule that `apply` is asked for, and the file that it comes from, if any.

    Args:
        model: The model.
        given: A schedule, the path of its file, or its JSON object; None = the file beside the weights.

    Raises:
        ScheduleError: it cannot be read.
        ScheduleMissingError: none is given, and no file is beside the weights; its cause is a `HubError` if nobody
            could tell.
        RepositoryError: the repository on the hub does not hold a codebook of its schedule.
        HubError: the codebook is not in the local cache, and the hub does not answer.
    """
    if isinstance(given, Schedule):
        return given, None
    if isinstance(given, Mapping):
        return Schedule.model_validate(dict(given)), None
    if isinstance(given, str | os.PathLike):
        return Schedule.load(given), Path(given)
    if given is not None:
        raise ScheduleError(
            "must be a schedule, the path of its file, or its JSON object", field="schedule", value=type(given).__name__
        )
    file = _beside_weights(model.config)
    log.info("the pruning schedule is taken from %s", file)
    return Schedule.load(file), file


def _beside_weights(config: Any) -> Path:
    """The schedule file beside the weights: in the folder that they were loaded from, or the repository on the hub."""
    name, revision = getattr(config, "name_or_path", "") or "", getattr(config, "_commit_hash", None)
    cause: Exception | None = None
    if not name:
        looked = "the model was loaded from nowhere"
    elif os.path.isdir(name) or (revision is None and is_path(name)):
        file = Path(name, SCHEDULE_FILE)
        if file.is_file():
            return file
        looked = f"looked for {file}"
    else:
        try:
            revision = revision or cached_commit(name)
            file = hub_file(name, SCHEDULE_FILE, revision)
        except (RepositoryError, HubError) as error:
            at = f" at revision {revision}" if revision else ""
            looked, cause = f"looked on the hub in {name}{at}: {error.message}", error
        else:
            for codebook in files_beside(Schedule.load(file)):
                hub_file(name, codebook, file.parent.name)
            return file
    raise ScheduleMissingError(
        f"none is given, and none is beside the weights: {looked}",
        field="schedule",
        remedy=f"give one, or put it beside the weights as {SCHEDULE_FILE}",
    ) from cause
