"""A schedule with the files that it needs beside it: as it is published and carried to other machines."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, deserialize

from autoprune.errors import ScheduleError
from autoprune.schedule.criteria import CodebookCriterion
from autoprune.schedule.schedule import Schedule

SCHEDULE_FILE = "pruning_schedule.json"
"""Name of a schedule beside the weights of its model, and in a repository."""
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Bundle:
    """A schedule whose codebooks are named from its own folder.

    Attributes:
        schedule: The schedule.
        codebooks: Content of each codebook by its name in that folder.
    """

    schedule: Schedule
    codebooks: Mapping[str, bytes]


def bundled(schedule: Schedule) -> Bundle:
    """A schedule with the content of its codebooks, which are read where its paths lead.

    Raises:
        ScheduleError: a codebook is missing, is another one than the schedule was made with, or no safetensors file.
    """
    contents = {codebook_name(criterion): codebook_content(criterion) for criterion in codebooks_of(schedule)}
    return Bundle(relocated(schedule), contents)


def codebooks_of(schedule: Schedule) -> tuple[CodebookCriterion, ...]:
    """The codebooks that a schedule uses."""
    criteria = (stage.criterion for stage in schedule.stages)
    return tuple(criterion for criterion in criteria if isinstance(criterion, CodebookCriterion))


def codebook_name(criterion: CodebookCriterion) -> str:
    """File name of a codebook beside a schedule; another codebook has another one.

    Raises:
        ScheduleError: its digest is none.
    """
    if not _DIGEST.fullmatch(criterion.sha256):
        raise ScheduleError(
            "is no SHA-256 in hex",
            field="criterion.sha256",
            value=criterion.sha256,
            remedy="write the digest of the codebook's file",
        )
    return f"codebook-{criterion.sha256[:12]}.safetensors"


def codebook_content(criterion: CodebookCriterion) -> bytes:
    """The bytes of a codebook's file.

    Raises:
        ScheduleError: the file is missing, is another one than the schedule was made with, or no safetensors file.
    """
    path = Path(criterion.path)
    if not path.is_file():
        raise ScheduleError(
            "there is no such codebook",
            field="criterion.path",
            value=criterion.path,
            remedy="make one with `autoprune codebook`, or run where the path of the schedule leads to it",
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != criterion.sha256:
        raise ScheduleError(
            "this is another codebook than the one the schedule was made with",
            field="criterion.sha256",
            value=criterion.sha256,
            remedy=f"use the file with that digest, or make the schedule anew with {criterion.path}",
        )
    try:
        deserialize(content)
    except SafetensorError as error:
        raise ScheduleError(f"is no safetensors file: {error}", field="criterion.path", value=criterion.path) from None
    return content


def files_beside(schedule: Schedule) -> tuple[str, ...]:
    """Names of the codebooks that a schedule expects in its own folder and that were not found yet.

    Raises:
        ScheduleError: one of them would lie elsewhere.
    """
    names = dict.fromkeys(one.path for one in codebooks_of(schedule) if not os.path.isabs(one.path))
    for name in names:
        if PurePosixPath(name).name != name or name == "..":
            raise ScheduleError(
                "lies outside of the folder of its schedule",
                field="criterion.path",
                value=name,
                remedy="put the codebook beside the schedule, and write its file name alone",
            )
    return tuple(names)


def relocated(schedule: Schedule) -> Schedule:
    """The same schedule, with its codebooks beside it under the names of a bundle.

    Raises:
        ScheduleError: the digest of a codebook is none.
    """
    return with_codebooks_at(schedule, codebook_name)


def with_codebooks_at(schedule: Schedule, place: Callable[[CodebookCriterion], str]) -> Schedule:
    """The same schedule, with the path of each of its codebooks as `place` gives it."""
    return schedule.with_criteria(
        lambda criterion: (
            criterion.model_copy(update={"path": place(criterion)})
            if isinstance(criterion, CodebookCriterion)
            else criterion
        )
    )
