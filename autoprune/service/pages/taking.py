"""Taking a schedule out of a front: the point that a budget leads to, and commands that fetch it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AllowInfNan

from autoprune.errors import AutopruneError
from autoprune.report.exported import claim_of, exported
from autoprune.report.reading import flops_of, point_name, quality_of
from autoprune.report.wishes import Wish
from autoprune.report.words import cost_and_loss, stage_words
from autoprune.schedule.bundle import relocated
from autoprune.search.front import FrontFile
from autoprune.service.api.codebooks import KeptCodebook, kept_codebooks
from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import NotThereError
from autoprune.service.pages.fronts import needed_front
from autoprune.service.pages.rendering import PageRoute, base_of, page
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import JobRecord

IN_PYTHON = 'import autoprune\n\npatch = autoprune.apply(model, "schedule.json")   # the stock transformers model'
Finite = Annotated[float, AllowInfNan(False)]


@dataclass(frozen=True)
class Way:
    """A budget by which a point is taken.

    Attributes:
        by: Of the api's selector.
        words: For people.
        usual: A value to begin with.
    """

    by: str
    words: str
    usual: float


WAYS = (
    Way("max_drop", "cheapest that loses at most, as a share", 0.01),
    Way("max_flops", "best within a share of the prefill FLOPs", 0.5),
    Way("max_latency_ms", "best within milliseconds of prefill", 50.0),
    Way("max_kv", "best within a share of the KV cache", 0.5),
    Way("trial", "the trial of this number", 0),
)


@dataclass(frozen=True)
class TakenPoint:
    """The point that a budget leads to, and how to get its schedule.

    Attributes:
        problem: Why there is none, and what to do; empty where there is one.
        name: Of the point.
        figures: Its cost and loss, in words.
        stages: Its stages, in words.
        codebooks: Files that its schedule needs beside it.
        snippets: Commands with what each is for.
    """

    way: Way
    value: float
    problem: str = ""
    name: str = ""
    figures: str = ""
    stages: Sequence[str] = ()
    codebooks: Sequence[KeptCodebook] = ()
    snippets: Sequence[tuple[str, str]] = ()


def way_of(by: str) -> Way:
    """The budget of a name.

    Raises:
        NotThereError: there is none of this name.
    """
    for way in WAYS:
        if way.by == by:
            return way
    raise NotThereError("is no budget", field="by", value=by, remedy=f"use one of {', '.join(w.by for w in WAYS)}")


def wished(way: Way, value: float) -> dict[str, Any]:
    """The selector of a budget."""
    return {way.by: int(value) if way.by == "trial" else value}


def choice_of(
    request: Request, settings: Settings, job: JobRecord, front: FrontFile, way: Way, value: float
) -> TakenPoint:
    """The point of a front within a budget."""
    try:
        claim = claim_of(front, Wish.of(front, **wished(way, value)))
        codebooks = kept_codebooks(relocated(claim.point.schedule).to_json_dict())
    except AutopruneError as error:
        return TakenPoint(way, value, problem=str(error))
    point, written = claim.point, f"{value:g}"
    folder = shlex.quote(str(settings.output_of(job.id)))
    option = f"--{way.by.replace('_', '-')} {written} -o schedule.json"
    return TakenPoint(
        way,
        value,
        name=point_name(point),
        figures=cost_and_loss(flops_of(point), claim.drop, quality_of(front)),
        stages=[stage_words(stage) for stage in point.schedule.stages],
        codebooks=codebooks,
        snippets=(
            ("From anywhere", f"autoprune remote schedule {job.id} --server {base_of(request)} {option}"),
            ("Without autoprune", fetching(request, f"/v1/studies/{job.id}/schedule?{urlencode({way.by: written})}")),
            ("Where the service runs", f"autoprune export {folder} {option}"),
            ("In Python", IN_PYTHON),
        ),
    )


def fetching(request: Request, path: str) -> str:
    """The command that saves a schedule of the api as a file, with a token for whoever had to log in."""
    key = '-H "Authorization: Bearer $AUTOPRUNE_TOKEN" ' if request.state.caller.csrf else ""
    return f"curl -sSf {key}'{base_of(request)}{path}' | jq .schedule > schedule.json"


def routes(context: ApiContext) -> APIRouter:
    """``/studies/{id}/take`` and ``/studies/{id}/schedule.json``."""
    router = APIRouter(prefix="/studies/{id}", route_class=PageRoute, dependencies=[Depends(context.may("read"))])
    settings = context.settings

    def found(id: str) -> tuple[JobRecord, FrontFile]:
        job = context.jobs.get(id, "study")
        return job, needed_front(job, settings)

    @router.get("/take")
    def take(request: Request, id: str, by: str, value: Finite) -> Response:
        """The part of a study's page that shows what a budget leads to."""
        job, front = found(id)
        choice = choice_of(request, settings, job, front, way_of(by), value)
        return page(request, "choice.html.j2", job=job, choice=choice)

    @router.get("/schedule.json")
    def schedule(id: str, by: str, value: Finite) -> Response:
        """The schedule as a file."""
        _, front = found(id)
        wish = Wish.of(front, **wished(way_of(by), value))
        taken = relocated(exported(front, claim_of(front, wish))).to_json_dict()
        named = {"Content-Disposition": 'attachment; filename="schedule.json"'}
        return Response(json.dumps(taken, indent=1) + "\n", headers=named, media_type="application/json")

    return router
