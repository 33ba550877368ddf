"""The work of a job that is a verification: a schedule's claim checked on held-out rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, ValidationInfo

from autoprune.data.samples import load_samples
from autoprune.errors import StudyError
from autoprune.evaluate.lengths import check_lengths
from autoprune.evaluate.verify import verify_schedule
from autoprune.models.config import read_config
from autoprune.models.loading import load_model
from autoprune.schedule import CodebookCriterion, Schedule
from autoprune.schedule.files import write_whole
from autoprune.schedule.validation import explained
from autoprune.search.sections import DataSet, ModelSection, StudyContext
from autoprune.search.workers.protocol import Event, OnEvent
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_engine
from autoprune.service.store.jobs import JobRecord
from autoprune.service.store.registry import Registry
from autoprune.service.work.places import check_code, check_places, check_rows
from autoprune.service.work.publication import is_kept, with_kept_codebooks

RESULT = "verification.json"
_Count = Annotated[int, Strict(), Field(ge=1)]


def _with_its_files(schedule: Schedule, info: ValidationInfo) -> Schedule:
    return schedule if info.context is None else schedule.from_folder(info.context.base)


class VersionReference(BaseModel):
    """A version in the registry, by its number or an alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: Annotated[int, Strict(), Field(ge=1, lt=2**31)] | str


class VerificationRequest(BaseModel):
    """What is to be verified.

    Attributes:
        schedule: The schedule, as exported; its codebooks lie below the roots, or are known from an earlier schedule.
        published: Where it stands in the registry, which then notes what is found; None for a schedule of the request.
        model: The model, as in a study file.
        data: Rows that the study did not use, as a data set of a study file.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer; None = as in the schedule's evidence, or 32 where it does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schedule: Annotated[Schedule, AfterValidator(_with_its_files)]
    published: VersionReference | None = None
    model: ModelSection
    data: DataSet
    batch_size: _Count = 16
    max_new_tokens: _Count | None = None


def checked_verification(request: Mapping[str, Any], settings: Settings, registry: Registry) -> VerificationRequest:
    """The verification that a request describes; its model's configuration is read, nothing else.

    Args:
        request: With `schedule`, or with `published` alone.
        settings: Of the service.
        registry: Published schedules.

    Raises:
        StudyError: it leaves the folders that this service reads, or is no verification.
        UnknownScheduleError: no such version is published.
        ModelError: the schedule is not for this model.
    """
    check_places(_without_kept_codebooks(request, settings), settings)
    check_code(request, settings)
    context = StudyContext(settings.roots[0].resolve())
    try:
        found = VerificationRequest.model_validate(_resolved(request, settings, registry), context=context)
    except ValidationError as error:
        raise explained(error, VerificationRequest, StudyError, where="verification") from None
    found = found.model_copy(update={"schedule": with_kept_codebooks(found.schedule, settings)})
    found.schedule.check_model(read_config(found.model.path, options=found.model))
    return found


def _without_kept_codebooks(request: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The request without the paths of codebooks that the service has by their digests, as it reads none of these."""
    schedule = request.get("schedule")
    if not isinstance(schedule, dict) or not isinstance(schedule.get("stages"), list):  # none, which is told later
        return dict(request)
    stages = [_without_kept_codebook(stage, settings) for stage in schedule["stages"]]
    return {**request, "schedule": {**schedule, "stages": stages}}


def _without_kept_codebook(stage: Any, settings: Settings) -> Any:
    try:
        criterion = CodebookCriterion.model_validate(stage["criterion"])
    except (ValidationError, TypeError, KeyError):  # another criterion, or none
        return stage
    return {**stage, "criterion": {}} if is_kept(criterion, settings) else stage


def _resolved(request: Mapping[str, Any], settings: Settings, registry: Registry) -> dict[str, Any]:
    """The request with the schedule that it names in the registry, and the number of its version."""
    if request.get("published") is None:
        return dict(request)
    if "schedule" in request:
        raise StudyError(
            "names a published schedule beside another one", field="schedule", remedy="leave one of them out"
        )
    try:
        wanted = VersionReference.model_validate(request["published"])
    except ValidationError as error:
        raise explained(error, VersionReference, StudyError, "published", where="verification") from None
    version = registry.version(wanted.name, wanted.version)
    number = {"name": version.name, "version": version.version}
    return {**request, "schedule": registry.content(version), "published": number}


def work_on_verification(job: JobRecord, settings: Settings, on_event: OnEvent) -> bool:
    """Measures a schedule beside the dense model and writes what was found.

    Returns:
        True: it came to its end.

    Raises:
        AutopruneError: it cannot be measured.
    """
    registry = Registry(open_engine(settings.database_url))
    request = checked_verification(job.request, settings, registry)
    on_event(Event("phase", "reading data"))
    rows = load_samples(request.data.path, **request.data.arguments)
    check_rows("data", rows, settings)
    on_event(Event("phase", "loading the model"))
    loaded = load_model(request.model.path, request.model)
    check_lengths(loaded, rows)
    found = verify_schedule(
        loaded,
        request.schedule,
        rows,
        batch_size=request.batch_size,
        max_new_tokens=request.max_new_tokens,
        on_step=lambda step: on_event(Event("phase", step)),
    )
    write_whole(settings.output_of(job.id) / RESULT, json.dumps(found.to_dict(), indent=1) + "\n")
    if request.published is not None:
        version = int(request.published.version)  # an alias became a number when the job was submitted
        verdict = {"verification": job.id, **found.to_dict()}
        registry.record_verdict(request.published.name, version, verdict, by=f"verification {job.id}")
    return True
