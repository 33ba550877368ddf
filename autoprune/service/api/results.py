"""Routes of what a study found: its front, its report, and single points as schedules."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from autoprune.report.exported import claim_of, export_notes, exported
from autoprune.report.wishes import Wish
from autoprune.search.front import FrontFile
from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented
from autoprune.service.work.selector import PointSelector


class Chosen(BaseModel):
    """A point of a front as a schedule."""

    trial: int
    name: str
    drop: float
    export: dict[str, Any]
    schedule: dict[str, Any]


def routes(context: ApiContext) -> APIRouter:
    """``/v1/studies/{id}/front``, ``/report`` and ``/schedule``."""
    router = APIRouter(prefix="/v1/studies/{id}", tags=["results"], dependencies=[Depends(context.may("read"))])

    @router.get("/front", responses=documented(404))
    def front(id: str) -> Response:
        """The front, as the study wrote it (front.json)."""
        return Response(context.output_file(id, "front.json").read_bytes(), media_type="application/json")

    @router.get(
        "/report",
        response_class=Response,  # HTMLResponse would describe the errors as HTML as well
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **documented(404)},
    )
    def report(id: str) -> Response:
        """The report page."""
        return HTMLResponse(context.output_file(id, "report.html").read_bytes())

    @router.get("/schedule", responses=documented(400, 404, 422))
    def schedule(id: str, selector: Annotated[PointSelector, Query()]) -> Chosen:
        """One point as a schedule: the cheapest within a loss, the best within a budget, or a trial."""
        folder = context.output_file(id, "front.json").parent
        found = FrontFile.load(folder)
        claim = claim_of(found, Wish.of(found, **selector.wish()), record=folder)
        return Chosen(
            trial=claim.point.trial,
            name=claim.point.name,
            drop=claim.drop,
            export=export_notes(found, claim),
            schedule=exported(found, claim).to_json_dict(),
        )

    return router
