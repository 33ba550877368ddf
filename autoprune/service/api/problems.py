"""Errors of the api: one JSON shape, and a status for each kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException

from autoprune.errors import AutopruneError
from autoprune.report.export import NoPointError
from autoprune.service.logs import log_outage
from autoprune.service.store.jobs import ENDED, ConflictError, JobRecord, State, UnknownJobError
from autoprune.service.store.registry import UnknownScheduleError

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every reply, for browsers, unless a route says otherwise; `Border` adds them to those that are no error."""


class NotThereError(AutopruneError, KeyError):
    """What was asked for does not exist, or not yet."""


_NOT_LEFT: Mapping[State, str] = {
    "queued": "it waits for a runner; ask again once it is done",
    "running": "it still runs; ask again once it is done",
    "done": "its files are gone; restore them from a backup",
    "failed": "it failed before; resume it once its reason is mended",
    "cancelled": "it was cancelled before; resume it",
}
"""What to do about a study that has left nothing, by where it stands."""


def not_left(job: JobRecord, what: str = "front") -> NotThereError:
    """That a study has no front, or no report, and what would give it one."""
    yet = "" if job.state in ENDED else " yet"
    return NotThereError(f"has no {what}{yet}", field="id", value=job.id, remedy=_NOT_LEFT[job.state])


class DeniedError(AutopruneError, PermissionError):
    """The caller is not known, may not do this, or does it too often.

    Args:
        status: 401, 403 or 429.
        headers: Of the reply.
    """

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.status, self.headers = status, headers


class Problem(BaseModel):
    """What is wrong, where, and what to do about it."""

    field: str | None = None
    value: str | int | float | bool | None = None
    message: str
    remedy: str | None = None


class ProblemReply(BaseModel):
    """The body of every reply that is no success."""

    error: Problem


_STATUS: Mapping[type[Exception], int] = {
    UnknownJobError: 404,
    UnknownScheduleError: 404,
    NotThereError: 404,
    ConflictError: 409,
    NoPointError: 422,
}


def reply(status: int, error: AutopruneError, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that tells an error."""
    body = json.dumps({"error": error.to_dict()})  # ASCII: the name of a file may be text that UTF-8 cannot hold
    return Response(body, status, {**HEADERS, **(headers or {})}, media_type="application/json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Replies that a route may give beside its success, for its documentation."""
    return {status: {"model": ProblemReply} for status in statuses}


@dataclass(frozen=True)
class Refusal:
    """An error as a reply tells it."""

    status: int
    error: AutopruneError
    headers: Mapping[str, str] | None = None


def _known(error: AutopruneError, path: str) -> Refusal:
    if isinstance(error, DeniedError):
        return Refusal(error.status, error, error.headers)
    by_kind = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    return Refusal(by_kind or (400 if isinstance(error, ValueError) else 422), error)


def _malformed(error: RequestValidationError, path: str) -> Refusal:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return Refusal(400, AutopruneError(str(first["msg"]), field=where, remedy="see /openapi.json"))


def _refused(error: HTTPException, path: str) -> Refusal:
    return Refusal(error.status_code, AutopruneError(str(error.detail), value=path), error.headers)


def _unfit(error: DataError, path: str) -> Refusal:
    return Refusal(400, AutopruneError("holds a value that no database takes", remedy="see /openapi.json"))


def _away(error: SQLAlchemyError, path: str) -> Refusal:
    log_outage(error)
    problem = AutopruneError("the database is away", remedy="try again in a while")
    return Refusal(503, problem, {"Retry-After": "5"})


_REFUSALS: Mapping[type[Exception], Callable[[Any, str], Refusal]] = {
    AutopruneError: _known,
    RequestValidationError: _malformed,
    HTTPException: _refused,
    DataError: _unfit,
    SQLAlchemyError: _away,
}
TOLD = tuple(_REFUSALS)
"""Errors that are told; all others are bugs."""


def refusal_of(error: Exception, request: Request) -> Refusal:
    """How an error of one of the kinds in `TOLD` is told."""
    return next(told(error, request.url.path) for kind, told in _REFUSALS.items() if isinstance(error, kind))


def install(app: FastAPI) -> None:
    """Lets an app tell all of its errors in this shape."""

    def tell(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error, request)
        return reply(refusal.status, refusal.error, refusal.headers)

    for kind in TOLD:
        app.add_exception_handler(kind, tell)
    # The border of the service: a bug of ours is told in the one shape too, without details. Starlette raises the error
    # again behind this reply, so that the server logs its traceback, once.
    app.add_exception_handler(Exception, _failed)


def _failed(request: Request, error: Exception) -> Response:
    return reply(500, AutopruneError("the service failed", remedy="its operator finds the reason in its log"))
