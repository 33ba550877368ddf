"""Routes for operators: health and readiness."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from sqlalchemy import text

from autoprune.service.api.context import ApiContext


def routes(context: ApiContext) -> APIRouter:
    """``/healthz`` and ``/readyz``."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz")
    async def healthz() -> dict[Literal["status"], str]:  # needs no thread, so none that waits for the database
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> dict[Literal["status"], str]:
        """The database answers."""
        with context.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return {"status": "ok"}

    return router
