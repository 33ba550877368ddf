"""Routes of studies: submitted, listed, watched, cancelled, resumed and deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from autoprune.search.spec import StudySpec
from autoprune.service.api.context import ApiContext
from autoprune.service.api.limits import Streams
from autoprune.service.api.problems import documented
from autoprune.service.logs import log_outage
from autoprune.service.settings import STUDY_KEYS
from autoprune.service.store.events import StoredEvent
from autoprune.service.store.jobs import ENDED, JobRecord, Kind, State, UnknownJobError
from autoprune.service.work.study import remove_study
from autoprune.service.work.submission import checked

_POLL_S, _RIGHT_S = 0.5, 15.0
"""Seconds after which the events of a study, and the right of who watches it, are looked at again."""
_KIND: Kind = "study"


class Submitted(BaseModel):
    """A study that was taken in."""

    id: str
    state: State


class StudyStatus(BaseModel):
    """A study as it stands.

    Attributes:
        objectives: What its trials are judged by, in the order of their values.
        progress: The last step of its driver: phase, progress or trial, with `done` and `total`.
    """

    id: str
    name: str
    state: State
    cancelling: bool
    reason: str
    attempts: int
    runner: str
    created: float
    started: float | None
    ended: float | None
    objectives: list[str]
    progress: dict[str, Any] | None = None


class StudyPage(BaseModel):
    """Studies, the newest first; `after` of the next page is the last id of this one."""

    studies: list[StudyStatus]
    next: str | None


def routes(context: ApiContext) -> APIRouter:
    """``/v1/studies`` and what can be done with one."""
    router = APIRouter(prefix="/v1/studies", tags=["studies"])
    settings, jobs, events, may = context.settings, context.jobs, context.events, context.may
    streams = Streams()

    def exists(id: str) -> None:
        jobs.get(id, _KIND)  # events: before the reply begins, whose status could not be changed any more

    def views(found: Sequence[JobRecord]) -> list[StudyStatus]:
        last = events.latest(found, "phase", "progress", "trial")
        return [_status(job, last.get(job.id)) for job in found]

    def view(job: JobRecord) -> StudyStatus:
        return views([job])[0]

    async def watching(request: Request) -> AsyncIterator[None]:
        with streams.one(request.state.caller.name):  # who asks is known: `of_one` goes before
            yield

    of_one = [Depends(may("read")), Depends(exists)]  # in this order: a stranger learns nothing

    @router.post(
        "",
        status_code=201,
        responses={200: {"model": Submitted}, **documented(400, 409, 413)},
    )
    def submit(
        study: Annotated[dict[str, Any], Body(description=f"The study file as JSON, without {', '.join(STUDY_KEYS)}.")],
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
        caller: str = Depends(may("write")),
    ) -> Submitted:
        """Queues a study, once for each Idempotency-Key."""
        spec = checked(study, settings)
        job, new = jobs.submit(_KIND, spec.name, study, idempotency_key, caller)
        response.status_code = 201 if new else 200
        return Submitted(id=job.id, state=job.state)

    @router.get("", dependencies=[Depends(may("read"))], responses=documented(400, 404))
    def page(
        state: State | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: str | None = None,
    ) -> StudyPage:
        """Studies, the newest first."""
        found = jobs.page(_KIND, state, limit, after)
        return StudyPage(studies=views(found), next=found[-1].id if len(found) == limit else None)

    @router.get("/{id}", dependencies=[Depends(may("read"))], responses=documented(404))
    def get(id: str) -> StudyStatus:
        """A study as it stands."""
        return view(jobs.get(id, _KIND))

    @router.post("/{id}/cancel", dependencies=of_one, responses=documented(404, 409))
    def cancel(id: str, caller: str = Depends(may("write"))) -> StudyStatus:
        """Ends a study; what runs is finished, and what was found is kept."""
        return view(jobs.cancel(id, caller))

    @router.post("/{id}/resume", dependencies=of_one, responses=documented(404, 409))
    def resume(id: str, caller: str = Depends(may("write"))) -> StudyStatus:
        """Queues a study again that failed or was cancelled; no finished trial is measured twice."""
        return view(jobs.resume(id, caller))

    @router.delete("/{id}", status_code=204, dependencies=of_one, responses=documented(404, 409))
    def delete(id: str, caller: str = Depends(may("write"))) -> None:
        """Removes a study that has ended, with its files and trials."""
        remove_study(jobs, settings, id, caller)

    @router.get(
        "/{id}/events",
        dependencies=[*of_one, Depends(watching)],
        response_class=EventSourceResponse,
        responses=documented(400, 404),
    )
    async def watch(
        request: Request,
        id: str,
        last_event_id: Annotated[int, Header(ge=0, lt=2**31)] = 0,
    ) -> AsyncIterator[ServerSentEvent]:
        """Events of a study from its beginning, or behind `Last-Event-ID`, until it has ended.

        Without an `end` the stream is over where the study was deleted, or who watches lost the right to: whoever comes
        again is told.
        """
        seen, allowed = last_event_id, time.monotonic()
        while not await request.is_disconnected():
            try:
                if time.monotonic() - allowed >= _RIGHT_S:
                    if not await asyncio.to_thread(context.access.still_allows, request, "read"):
                        return
                    allowed = time.monotonic()
                job = await asyncio.to_thread(jobs.get, id)
                found = await asyncio.to_thread(events.after, job, seen)
            except UnknownJobError:
                return
            except SQLAlchemyError as error:  # the status is sent already, and cannot say so any more
                log_outage(error)
                return
            for event in found:
                seen = event.number
                yield ServerSentEvent(data=event.content, event=event.kind, id=str(seen))
            if found:
                continue  # there may be more
            if job.state in ENDED:
                yield ServerSentEvent(data={"state": job.state, "reason": job.reason}, event="end", id=str(seen))
                return
            await asyncio.sleep(_POLL_S)

    return router


def _status(job: JobRecord, last: StoredEvent | None) -> StudyStatus:
    known = {name: getattr(job, name) for name in StudyStatus.model_fields if hasattr(job, name)}
    objectives = job.request.get("objectives") or StudySpec.model_fields["objectives"].default
    return StudyStatus(**known, objectives=list(objectives), progress=last and last.content)
