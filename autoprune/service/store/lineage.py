"""Lineage of a published schedule: the study, the model and the rows that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile


@dataclass(frozen=True)
class Lineage:
    """Where a schedule comes from; None where nobody noted it.

    Attributes:
        study_id: Id of the study in this service.
        study: Its name.
        trial: Number of the trial.
        made_by: The command that chose the schedule.
        model: Name of the model.
        model_fingerprint: Of its weights.
        config_sha256: Of its structure.
        data: Digest of each set of rows that it was measured on.
        versions: Of the packages that it was measured with.
    """

    study_id: str | None = None
    study: str | None = None
    trial: int | None = None
    made_by: str | None = None
    model: str | None = None
    model_fingerprint: str | None = None
    config_sha256: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def lineage_of(schedule: Schedule, front: FrontFile | None = None, study_id: str | None = None) -> Lineage:
    """The lineage that the evidence of a schedule tells, and the front that it was taken from.

    Args:
        schedule: The schedule; its evidence is free-form.
        front: The front of its study.
        study_id: Id of that study.
    """
    told, trial = schedule.evidence, schedule.evidence.get("trial")
    fingerprint = told.get("model_fingerprint") or (front.model.fingerprint if front else None)
    data = _texts({told["data"]: told.get("data_digest")}) if isinstance(told.get("data"), str) else {}
    return Lineage(
        study_id=study_id,
        study=_text(front.study.name if front else told.get("study")),
        trial=trial if isinstance(trial, int) else None,
        made_by=_text(told.get("made_by")),
        model=schedule.model.name if schedule.model else None,
        model_fingerprint=_text(fingerprint),
        config_sha256=schedule.model.config_sha256 if schedule.model else None,
        data=data | {name: notes.digest for name, notes in (front.study.data if front else {}).items()},
        versions=_texts(told.get("versions") or (front.study.versions if front else None)),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(values: Any) -> dict[str, str]:
    """What is text in what should be texts by name."""
    found = values if isinstance(values, Mapping) else {}
    return {str(name): value for name, value in found.items() if isinstance(value, str)}
