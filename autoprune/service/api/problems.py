"""Errors of the api: one JSON shape, and a status for each kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException

from autoprune.errors import AutopruneError
from autoprune.report.export import NoPointError
from autoprune.service.store.jobs import ConflictError, UnknownJobError
from autoprune.service.store.registry import UnknownScheduleError

log = logging.getLogger("autoprune.service.api")


class NotThereError(AutopruneError, KeyError):
    """What was asked for does not exist, or not yet."""


class DeniedError(AutopruneError, PermissionError):
    """The caller is not known, or may not do this.

    Args:
        status: 401 or 403.
    """

    def __init__(self, message: str, status: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.status = status


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


def reply(status: int, error: AutopruneError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The reply that tells an error."""
    return JSONResponse({"error": error.to_dict()}, status, headers)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Replies that a route may give beside its success, for its documentation."""
    return {status: {"model": ProblemReply} for status in statuses}


def install(app: FastAPI) -> None:
    """Lets an app tell all of its errors in this shape."""

    @app.exception_handler(AutopruneError)
    def known(request: Request, error: AutopruneError) -> JSONResponse:
        if isinstance(error, DeniedError):
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            return reply(error.status, error, headers)
        by_kind = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
        return reply(by_kind or (400 if isinstance(error, ValueError) else 422), error)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return reply(400, AutopruneError(str(first["msg"]), field=where, remedy="see /docs"))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        return reply(error.status_code, AutopruneError(str(error.detail), value=request.url.path), error.headers)

    @app.exception_handler(DataError)
    def unfit(request: Request, error: DataError) -> JSONResponse:
        return reply(400, AutopruneError("holds a value that no database takes", remedy="see /docs"))

    @app.exception_handler(SQLAlchemyError)
    def away(request: Request, error: SQLAlchemyError) -> JSONResponse:
        log.warning("the database is away: %s", str(error).splitlines()[0])
        problem = AutopruneError("the database is away", remedy="try again in a while")
        return reply(503, problem, {"Retry-After": "5"})
