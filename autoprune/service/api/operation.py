"""Routes for operators: health, readiness and metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from sqlalchemy import text

from autoprune.service.api.context import ApiContext


def routes(context: ApiContext) -> APIRouter:
    """``/healthz``, ``/readyz``, ``/metrics``."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz")
    def healthz() -> dict[Literal["status"], str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> dict[Literal["status"], str]:
        """The database answers."""
        with context.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return {"status": "ok"}

    @router.get("/metrics")
    def metrics() -> Response:
        """Jobs by state, for Prometheus."""
        lines = ["# HELP autoprune_jobs Jobs by state.", "# TYPE autoprune_jobs gauge"]
        lines += [f'autoprune_jobs{{state="{state}"}} {count}' for state, count in context.jobs.counts().items()]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
