"""The record of what validation rows were used to promise: each further bound asked of the same rows costs certainty.

A promise errs with 1 - confidence. The same bounds asked of the same front again is the same promise: the answer is
the same, and at another confidence the stricter answer is among those of the looser one. Other bounds, or another
front, are further promises. Each still holds with its own confidence; that all of them hold is only sure with one
minus the sum of their errors (Bonferroni), and only for bounds that were not picked by the answers to others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from autoprune.errors import StudyError
from autoprune.report.promises import sequence_of
from autoprune.schedule.files import read_json, write_whole
from autoprune.search.front import FrontFile

FILE = "promises.json"
_PATIENCE = 30.0


class PromiseUse(BaseModel):
    """One question for a promise, answered or not.

    Attributes:
        rows: Digest of the validation rows.
        front: Digest of the points tested, in their order.
        bounds: What was asked, by task.
        confidence: The confidence.
        trial: The point that was promised; None if none could be.
        asked: When, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: str
    front: str
    bounds: dict[str, float]
    confidence: float
    trial: int | None
    asked: str


class PromiseUses(BaseModel):
    """The content of ``promises.json`` beside a front."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["autoprune.promises"] = "autoprune.promises"
    version: Literal[1] = 1
    uses: tuple[PromiseUse, ...] = ()


@dataclass(frozen=True)
class PromiseStanding:
    """What the promises made from the same rows are worth together.

    Attributes:
        promises: Number of different ones, this one included.
        together: Confidence that all of them hold.
    """

    promises: int
    together: float


def record_use(
    folder: str | Path, front: FrontFile, bounds: Mapping[str, float], confidence: float, trial: int | None
) -> PromiseStanding:
    """Adds a question to the record of a study's output folder, and says how many there were on the same rows.

    Raises:
        StudyError: the record cannot be read or written.
    """
    path = Path(folder) / FILE
    use = PromiseUse(
        rows=rows_digest(front),
        front=front_digest(front),
        bounds=dict(sorted(bounds.items())),
        confidence=confidence,
        trial=trial,
        asked=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
            known = _load(path)
            known = known.model_copy(update={"uses": (*known.uses, use)})
            write_whole(path, known.model_dump_json(indent=1) + "\n")
    except (OSError, Timeout) as error:
        reason = "another export holds it" if isinstance(error, Timeout) else error.strerror
        raise StudyError(
            f"the use of the validation rows cannot be recorded: {reason}",
            field="run", value=str(path), remedy="copy the output folder to where it can be written",
        ) from None  # fmt: skip
    return standing(known, use.rows)


def standing(known: PromiseUses, rows: str) -> PromiseStanding:
    """What the promises made from rows of this digest are worth together."""
    errors: dict[tuple[Any, ...], float] = {}
    for use in known.uses:
        if use.rows == rows:
            which = (use.front, *use.bounds.items())
            errors[which] = max(errors.get(which, 0.0), 1 - use.confidence)
    return PromiseStanding(len(errors), max(0.0, 1 - sum(errors.values())))


def rows_digest(front: FrontFile) -> str:
    """Digest of the validation rows, as the study noted it."""
    notes = front.study.data.get("validation")
    return notes.digest if notes else ""


def front_digest(front: FrontFile) -> str:
    """Digest of the points that are tested, in their order."""
    return hashlib.sha256("\n".join(p.schedule.key for p in sequence_of(front)).encode()).hexdigest()


def _load(path: Path) -> PromiseUses:
    if not path.exists():
        return PromiseUses()
    try:
        return PromiseUses.model_validate(read_json(path))
    except ValueError:
        raise StudyError(
            "is no record of promises", field="run", value=str(path), remedy="move it away; the record begins anew"
        ) from None
