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
from autoprune.schedule import Schedule
from autoprune.schedule.files import write_whole
from autoprune.schedule.validation import explained
from autoprune.search.sections import DataSet, ModelSection, StudyContext
from autoprune.search.workers.protocol import Event, OnEvent
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import JobRecord
from autoprune.service.work.places import check_code, check_places, check_rows

RESULT = "verification.json"
_Count = Annotated[int, Strict(), Field(ge=1)]


def _with_its_files(schedule: Schedule, info: ValidationInfo) -> Schedule:
    return schedule if info.context is None else schedule.from_folder(info.context.base)


class VerificationRequest(BaseModel):
    """What is to be verified.

    Attributes:
        schedule: The schedule, as exported.
        model: The model, as in a study file.
        data: Rows that the study did not use, as a data set of a study file.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer; None = as in the schedule's evidence, or 32 where it does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schedule: Annotated[Schedule, AfterValidator(_with_its_files)]
    model: ModelSection
    data: DataSet
    batch_size: _Count = 16
    max_new_tokens: _Count | None = None


def checked_verification(request: Mapping[str, Any], settings: Settings) -> VerificationRequest:
    """The verification that a request describes; its model's configuration is read, nothing else.

    Raises:
        StudyError: it leaves the folders that this service reads, or is no verification.
        ModelError: the schedule is not for this model.
    """
    check_places(dict(request), settings)
    check_code(request, settings)
    context = StudyContext(settings.roots[0].resolve())
    try:
        found = VerificationRequest.model_validate(request, context=context)
    except ValidationError as error:
        raise explained(error, VerificationRequest, StudyError, where="verification") from None
    found.schedule.check_model(read_config(found.model.path, options=found.model))
    return found


def work_on_verification(job: JobRecord, settings: Settings, on_event: OnEvent) -> bool:
    """Measures a schedule beside the dense model and writes what was found.

    Returns:
        True: it came to its end.

    Raises:
        AutopruneError: it cannot be measured.
    """
    request = checked_verification(job.request, settings)
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
    return True
