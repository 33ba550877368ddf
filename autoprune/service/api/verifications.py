"""Routes of verifications: a schedule's claim, checked on held-out rows."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Response
from pydantic import BaseModel

from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented
from autoprune.service.store.jobs import JobRecord, Kind, State
from autoprune.service.work.verification import RESULT, checked_verification

_KIND: Kind = "verification"


class VerificationStatus(BaseModel):
    """A verification as it stands.

    Attributes:
        step: What is being done.
        result: What was found, once it is done: accuracy dense and pruned, the drop with its interval, what the
            schedule claims, whether the claim holds, and times.
    """

    id: str
    state: State
    reason: str
    created: float
    started: float | None
    ended: float | None
    step: str | None = None
    result: dict[str, Any] | None = None


def routes(context: ApiContext) -> APIRouter:
    """``/v1/verifications``."""
    router = APIRouter(prefix="/v1/verifications", tags=["verifications"])
    settings, jobs, events, may = context.settings, context.jobs, context.events, context.may

    def view(job: JobRecord) -> VerificationStatus:
        known = {name: getattr(job, name) for name in VerificationStatus.model_fields if hasattr(job, name)}
        file, last = settings.output_of(job.id) / RESULT, events.latest([job], "phase").get(job.id)
        return VerificationStatus(
            **known,
            step=last.content["message"] if last and job.state == "running" else None,
            result=json.loads(file.read_text()) if job.state == "done" else None,
        )

    @router.post(
        "",
        status_code=201,
        responses={200: {"model": VerificationStatus}, **documented(400, 404, 409, 413)},
    )
    def submit(
        verification: Annotated[
            dict[str, Any],
            Body(
                description="`schedule`, as exported, or `published` with `name` and `version`, which then keeps the "
                "verdict; `model` and `data`, as in a study file; `batch_size` and more."
            ),
        ],
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
        caller: str = Depends(may("write")),
    ) -> VerificationStatus:
        """Queues a verification, once for each Idempotency-Key."""
        found = checked_verification(verification, settings, context.registry)
        if found.published is not None:  # an alias may lead elsewhere by the time that it runs
            verification = {**verification, "published": found.published.model_dump()}
        job, new = jobs.submit(_KIND, None, verification, idempotency_key, caller)
        response.status_code = 201 if new else 200
        return view(job)

    @router.get("/{id}", dependencies=[Depends(may("read"))], responses=documented(404))
    def get(id: str) -> VerificationStatus:
        """A verification as it stands, with what was found."""
        return view(jobs.get(id, _KIND))

    return router
