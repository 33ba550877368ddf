"""Pages of studies: their list, and one of them with what can be done with it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from autoprune.report.overview import headline, warnings
from autoprune.report.pairs import front_rows
from autoprune.report.reading import quality_of
from autoprune.service.api.context import ApiContext
from autoprune.service.pages.fronts import front_of
from autoprune.service.pages.progress import study_views
from autoprune.service.pages.rendering import PageRoute, is_part, page
from autoprune.service.pages.taking import WAYS, Finite, choice_of, way_of
from autoprune.service.store.jobs import State
from autoprune.service.store.survey import survey
from autoprune.service.work.study import remove_study

_PAGE, _WARNINGS = 25, 20


def routes(context: ApiContext) -> APIRouter:
    """``/studies`` and what is below it."""
    router = APIRouter(route_class=PageRoute)
    jobs, events, settings, may = context.jobs, context.events, context.settings, context.may

    @router.get("/", dependencies=[Depends(may("read"))])
    def start() -> Response:
        return RedirectResponse("/studies", 303)

    @router.get("/studies", dependencies=[Depends(may("read"))])
    def listed(request: Request, state: State | None = None, after: str | None = None) -> Response:
        found = jobs.page("study", state, _PAGE + 1, after)
        shown = study_views(found[:_PAGE], events)
        further = found[_PAGE - 1].id if len(found) > _PAGE else None
        template = "studies_part.html.j2" if is_part(request) else "studies.html.j2"
        return page(
            request,
            template,
            studies=shown,
            counts=survey(context.engine).of("study"),
            state=state,
            after=after,
            further=further,
        )

    @router.get("/studies/{id}", dependencies=[Depends(may("read"))])
    def one(request: Request, id: str, by: str = "max_drop", value: Finite | None = None) -> Response:
        job = jobs.get(id, "study")
        front = None if job.state == "running" else front_of(job, settings)  # a resumed study has an earlier one
        others = [other for other in jobs.page("study", "done", 200) if other.id != id]
        values: dict[str, Any] = {"front": None}
        if front is not None:
            way = way_of(by)
            values = {
                "front": front,
                "headline": headline(front),
                "doubts": warnings(front),
                "quality": quality_of(front).short,
                "rows": front_rows(front),
                "ways": WAYS,
                "choice": choice_of(request, settings, job, front, way, way.usual if value is None else value),
            }
        return page(
            request,
            "study.html.j2",
            study=study_views([job], events)[0],
            told=[event.content["message"] for event in events.newest(job, "warning", _WARNINGS)],
            request_text=json.dumps(job.request, indent=1, ensure_ascii=False),
            others=others,
            **values,
        )

    @router.get("/studies/{id}/state", dependencies=[Depends(may("read"))])
    def state_of(request: Request, id: str, shown: Annotated[str, Query()] = "") -> Response:
        """The part of the page that changes as the study runs; once its state is another one, the whole page."""
        study = study_views([jobs.get(id, "study")], events)[0]
        reply = page(request, "state.html.j2", study=study)
        if study.job.state != shown:
            reply.headers["HX-Refresh"] = "true"
        return reply

    @router.post("/studies/{id}/cancel")
    def cancel(id: str, caller: str = Depends(may("write"))) -> Response:
        jobs.cancel(jobs.get(id, "study").id, caller)
        return RedirectResponse(f"/studies/{id}", 303)

    @router.post("/studies/{id}/resume")
    def resume(id: str, caller: str = Depends(may("write"))) -> Response:
        jobs.resume(jobs.get(id, "study").id, caller)
        return RedirectResponse(f"/studies/{id}", 303)

    @router.post("/studies/{id}/delete")
    def delete(id: str, caller: str = Depends(may("write"))) -> Response:
        remove_study(jobs, settings, jobs.get(id, "study").id, caller)
        return RedirectResponse("/studies", 303)

    return router
