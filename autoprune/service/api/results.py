"""Routes of what a study found: its front, its report, and single points as schedules."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel

from autoprune.report.exported import claim_of, export_notes, exported
from autoprune.report.reading import exportable, flops_of, held_out, point_name, quality_of
from autoprune.report.wishes import Wish
from autoprune.schedule.bundle import codebooks_of
from autoprune.search.front import FrontFile
from autoprune.service.api.codebooks import Digest, KeptCodebook, codebook_reply, kept_codebooks, no_codebook
from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented
from autoprune.service.work.publication import keep_codebooks
from autoprune.service.work.selector import PointSelector


class Chosen(BaseModel):
    """A point of a front as a schedule.

    Attributes:
        quality: The objective that `drop` is a loss of.
        flops_ratio: Prefill FLOPs over dense; end to end None where a part has no price.
        codebooks: Files that the schedule needs beside it; `…/codebooks/{sha256}` hands them out.
    """

    trial: int
    name: str
    quality: str
    drop: float
    flops_ratio: float
    flops_ratio_end_to_end: float | None
    export: dict[str, Any]
    schedule: dict[str, Any]
    codebooks: list[KeptCodebook]


def routes(context: ApiContext) -> APIRouter:
    """``/v1/studies/{id}/front``, ``/report``, ``/schedule`` and the codebooks of schedules."""
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
        carried = keep_codebooks(exported(found, claim), context.settings).to_json_dict()
        return Chosen(
            trial=claim.point.trial,
            name=point_name(claim.point),
            quality=quality_of(found).name,
            drop=claim.drop,
            flops_ratio=flops_of(claim.point),
            flops_ratio_end_to_end=held_out(claim.point).flops_ratio_end_to_end,
            export=export_notes(found, claim),
            schedule=carried,
            codebooks=kept_codebooks(carried),
        )

    @router.get("/codebooks/{sha256}", response_class=FileResponse, responses=documented(400, 404))
    def codebook(id: str, sha256: Digest) -> FileResponse:
        """A codebook that schedules of the study need beside them (safetensors)."""
        found = FrontFile.load(context.output_file(id, "front.json").parent)
        for point in exportable(found):
            if any(book.sha256 == sha256 for book in codebooks_of(point.schedule)):
                kept = keep_codebooks(point.schedule, context.settings)
                return codebook_reply(kept.to_json_dict(), sha256, context.settings)
        raise no_codebook(sha256)

    return router
