"""The api: what users ask of the service over HTTP, under /v1 (OpenAPI 3.1 at /openapi.json)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sqlalchemy import Engine, text
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

import autoprune
from autoprune.report.exported import claim_of, export_notes, exported
from autoprune.report.wishes import Wish
from autoprune.search.front import FrontFile
from autoprune.search.ledger import forget_study
from autoprune.service.database import ensure_schema, open_engine
from autoprune.service.events import Events
from autoprune.service.guards import Border, Permission, guarded_by
from autoprune.service.jobs import ENDED, JobRecord, Jobs, State
from autoprune.service.problems import NotThereError, documented, install
from autoprune.service.settings import Settings
from autoprune.service.submission import checked
from autoprune.service.tokens import Tokens

_POLL_S = 0.5
_KIND = "study"


class Submitted(BaseModel):
    """A study that was taken in."""

    id: str
    state: State


class StudyStatus(BaseModel):
    """A study as it stands.

    Attributes:
        progress: The last step of its driver: phase or progress, with `done` and `total`.
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
    progress: dict[str, Any] | None = None


class StudyPage(BaseModel):
    """Studies, the newest first; `after` of the next page is the last id of this one."""

    studies: list[StudyStatus]
    next: str | None


class Chosen(BaseModel):
    """A point of a front as a schedule."""

    trial: int
    name: str
    drop: float
    export: dict[str, Any]
    schedule: dict[str, Any]


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """The app on a database.

    Args:
        settings: Of the service.
        engine: The database; None = that of the settings.

    Raises:
        StorageError: the database cannot be opened, or has another schema.
    """
    database = engine or open_engine(settings.database_url)
    ensure_schema(database)
    jobs, events = Jobs(database, settings.lease_s), Events(database)
    may = guarded_by(Tokens(database))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        database.dispose()

    app = FastAPI(
        title="autoprune",
        version=autoprune.__version__,
        description="Studies of visual-token pruning: submitted, watched, and exported as schedules.",
        lifespan=life,
        responses=documented(401, 403, 503),
    )
    install(app)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.most_bytes)
    app.add_middleware(Border, local_only=settings.is_loopback)
    _add_health(app, database, jobs)
    _add_studies(app, settings, jobs, events, may)
    _add_results(app, settings, jobs, may)
    return app


def _add_health(app: FastAPI, database: Engine, jobs: Jobs) -> None:
    @app.get("/healthz", tags=["operation"])
    def healthz() -> dict[Literal["status"], str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"])
    def readyz() -> dict[Literal["status"], str]:
        """The database answers."""
        with database.connect() as connection:
            connection.execute(text("SELECT 1"))
        return {"status": "ok"}

    @app.get("/metrics", tags=["operation"])
    def metrics() -> Response:
        """Jobs by state, for Prometheus."""
        lines = ["# HELP autoprune_jobs Jobs by state.", "# TYPE autoprune_jobs gauge"]
        lines += [f'autoprune_jobs{{state="{state}"}} {count}' for state, count in jobs.counts().items()]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_studies(app: FastAPI, settings: Settings, jobs: Jobs, events: Events, may: Permission) -> None:
    def exists(id: str) -> None:
        jobs.get(id)  # before the reply begins, whose status could not be changed any more

    def view(job: JobRecord) -> StudyStatus:
        known = {name: getattr(job, name) for name in StudyStatus.model_fields if name != "progress"}
        last = events.latest(job, "progress") or events.latest(job, "phase")
        return StudyStatus(**known, progress=last and last.content)

    @app.post(
        "/v1/studies",
        status_code=201,
        dependencies=[Depends(may("write"))],
        responses={200: {"model": Submitted}, **documented(400, 409, 413)},
        tags=["studies"],
    )
    def submit(
        study: Annotated[dict[str, Any], Body(description="The study file as JSON, without `output` and `storage`.")],
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Submitted:
        """Queues a study, once for each Idempotency-Key."""
        spec = checked(study, settings)
        job, new = jobs.submit(_KIND, spec.name, study, idempotency_key)
        response.status_code = 201 if new else 200
        return Submitted(id=job.id, state=job.state)

    @app.get("/v1/studies", dependencies=[Depends(may("read"))], responses=documented(400, 404), tags=["studies"])
    def page(
        state: State | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: str | None = None,
    ) -> StudyPage:
        """Studies, the newest first."""
        found = jobs.page(state, limit, after)
        return StudyPage(studies=[view(job) for job in found], next=found[-1].id if len(found) == limit else None)

    @app.get("/v1/studies/{id}", dependencies=[Depends(may("read"))], responses=documented(404), tags=["studies"])
    def get(id: str) -> StudyStatus:
        """A study as it stands."""
        return view(jobs.get(id))

    @app.post(
        "/v1/studies/{id}/cancel",
        dependencies=[Depends(may("write"))],
        responses=documented(404, 409),
        tags=["studies"],
    )
    def cancel(id: str) -> StudyStatus:
        """Ends a study; what runs is finished, and what was found is kept."""
        return view(jobs.cancel(id))

    @app.post(
        "/v1/studies/{id}/resume",
        dependencies=[Depends(may("write"))],
        responses=documented(404, 409),
        tags=["studies"],
    )
    def resume(id: str) -> StudyStatus:
        """Queues a study again that failed or was cancelled; no finished trial is measured twice."""
        return view(jobs.resume(id))

    @app.delete(
        "/v1/studies/{id}",
        status_code=204,
        dependencies=[Depends(may("write"))],
        responses=documented(404, 409),
        tags=["studies"],
    )
    def delete(id: str) -> None:
        """Removes a study that has ended, with its files and trials."""
        job = jobs.delete(id)
        shutil.rmtree(settings.output_of(job.id), ignore_errors=True)
        if settings.on_server:
            forget_study(settings.database_url, job.name)

    @app.get(
        "/v1/studies/{id}/events",
        dependencies=[Depends(may("read")), Depends(exists)],
        response_class=EventSourceResponse,
        responses=documented(404),
        tags=["studies"],
    )
    async def watch(
        request: Request,
        id: str,
        last_event_id: Annotated[int, Header(ge=0)] = 0,
    ) -> AsyncIterator[ServerSentEvent]:
        """Events of a study from its beginning, or behind `Last-Event-ID`, until it has ended."""
        seen = last_event_id
        while not await request.is_disconnected():
            job = await asyncio.to_thread(jobs.get, id)
            found = await asyncio.to_thread(events.after, job, seen)
            for event in found:
                seen = event.number
                yield ServerSentEvent(data=event.content, event=event.kind, id=str(seen))
            if found:
                continue  # there may be more
            if job.state in ENDED:
                yield ServerSentEvent(data={"state": job.state, "reason": job.reason}, event="end", id=str(seen))
                return
            await asyncio.sleep(_POLL_S)


def _add_results(app: FastAPI, settings: Settings, jobs: Jobs, may: Permission) -> None:
    def file_of(id: str, name: str) -> Path:
        job = jobs.get(id)
        found = settings.output_of(job.id) / name
        if not found.is_file():
            raise NotThereError(
                "has no front yet", field="id", value=id, remedy=f"it is {job.state}; wait until it is done"
            )
        return found

    read = [Depends(may("read"))]

    @app.get("/v1/studies/{id}/front", dependencies=read, responses=documented(404), tags=["results"])
    def front(id: str) -> Response:
        """The front, as the study wrote it (front.json)."""
        return Response(file_of(id, "front.json").read_bytes(), media_type="application/json")

    @app.get(
        "/v1/studies/{id}/report",
        dependencies=read,
        response_class=HTMLResponse,
        responses=documented(404),
        tags=["results"],
    )
    def report(id: str) -> Response:
        """The report page."""
        return HTMLResponse(file_of(id, "report.html").read_bytes())

    @app.get("/v1/studies/{id}/schedule", dependencies=read, responses=documented(400, 404, 422), tags=["results"])
    def schedule(
        id: str,
        max_drop: float | None = None,
        max_flops: float | None = None,
        max_latency_ms: float | None = None,
        max_kv: float | None = None,
        trial: int | None = None,
        confidence: float | None = None,
    ) -> Chosen:
        """One point as a schedule: the cheapest within a loss, the best within a budget, or a trial."""
        folder = file_of(id, "front.json").parent
        found = FrontFile.load(folder)
        wish = Wish.of(
            found,
            max_drop=max_drop,
            max_flops=max_flops,
            max_latency_ms=max_latency_ms,
            max_kv=max_kv,
            trial=trial,
            confidence=confidence,
        )
        claim = claim_of(found, wish, record=folder)
        return Chosen(
            trial=claim.point.trial,
            name=claim.point.name,
            drop=claim.drop,
            export=export_notes(found, claim),
            schedule=exported(found, claim).to_json_dict(),
        )
