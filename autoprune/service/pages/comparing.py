"""Charts of the pages: one study, while it runs and afterwards, and two studies side by side."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from autoprune.errors import StudyError
from autoprune.report.pairs import are_comparable, budget_rows, doubts, pair_facts, paired_chart
from autoprune.search.front import FrontFile
from autoprune.service.api.context import ApiContext
from autoprune.service.pages.charts import Charts
from autoprune.service.pages.fronts import needed_front
from autoprune.service.pages.rendering import PageRoute, page

_MOST = 200


def routes(context: ApiContext) -> APIRouter:
    """``/studies/{id}/chart.json``, ``/compare`` and ``/compare/chart.json``."""
    router = APIRouter(route_class=PageRoute, dependencies=[Depends(context.may("read"))])
    jobs, settings = context.jobs, context.settings
    charts = Charts(jobs, context.events, settings)

    def pair(a: str, b: str) -> tuple[FrontFile, FrontFile]:
        return needed_front(jobs.get(a, "study"), settings), needed_front(jobs.get(b, "study"), settings)

    @router.get("/studies/{id}/chart.json")
    def chart(request: Request, id: str) -> Response:
        """The front of a study; of one that runs, or left none, what it has measured so far."""
        tag, chart = charts.of(id)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(chart, headers=headers, media_type="application/json")

    @router.get("/compare")
    def compare(request: Request, a: str = "", b: str = "") -> Response:
        """Two studies on one chart."""
        values: dict[str, Any] = {"pair": None}
        if a and b:
            fronts = pair(a, b)
            values = {
                "pair": fronts,
                "ids": (a, b),
                "comparable": are_comparable(fronts),
                "doubts": doubts(fronts),
                "facts": [pair_facts(front) for front in fronts],
                "budgets": budget_rows(fronts),
            }
        ended = [job for state in ("done", "cancelled") for job in jobs.page("study", state, _MOST)]
        return page(request, "compare.html.j2", studies=ended, a=a, b=b, **values)

    @router.get("/compare/chart.json")
    def both(a: str, b: str) -> Response:
        """The chart of two fronts."""
        fronts = pair(a, b)
        if not are_comparable(fronts):
            raise StudyError("are judged by different qualities", field="b", value=b, remedy="compare their reports")
        return Response(json.dumps(paired_chart(fronts)), media_type="application/json")

    return router
