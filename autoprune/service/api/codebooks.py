"""Codebooks that schedules need beside them: named with a schedule, and handed out by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import FileResponse
from pydantic import BaseModel

from autoprune.service.api.problems import NotThereError
from autoprune.service.settings import Settings

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


class KeptCodebook(BaseModel):
    """A file that a schedule needs beside it; `…/codebooks/{sha256}` hands it out."""

    name: str
    sha256: str


def kept_codebooks(schedule: Mapping[str, Any]) -> list[KeptCodebook]:
    """Codebooks of a schedule as JSON, which can be read where a package of its other criteria is not installed."""
    criteria = [stage.get("criterion") or {} for stage in schedule["stages"]]
    books = {one["sha256"]: one["path"] for one in criteria if one.get("name") == "codebook"}
    return [KeptCodebook(name=name, sha256=sha256) for sha256, name in books.items()]


def no_codebook(sha256: str) -> NotThereError:
    """That no schedule here has the codebook that was asked for."""
    return NotThereError("is no codebook of this schedule", field="sha256", value=sha256)


def codebook_reply(schedule: Mapping[str, Any], sha256: str, settings: Settings) -> FileResponse:
    """The file of a codebook of a schedule.

    Raises:
        NotThereError: the schedule has none of this digest.
    """
    names = {book.sha256: book.name for book in kept_codebooks(schedule)}
    file = settings.codebook_file(sha256)
    if sha256 not in names or not file.is_file():
        raise no_codebook(sha256)
    headers = {"etag": f'"{sha256}"', "cache-control": "private, no-cache"}
    return FileResponse(file, media_type="application/octet-stream", filename=names[sha256], headers=headers)
