"""Pages of the registry: published schedules, their versions, and publishing a point of a study."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from autoprune.service.api.codebooks import kept_codebooks
from autoprune.service.api.context import ApiContext
from autoprune.service.api.registry import NAME, WORD, Name
from autoprune.service.pages.rendering import PageRoute, page
from autoprune.service.pages.taking import IN_PYTHON, Finite, fetching, way_of, wished
from autoprune.service.store.registry import ScheduleName
from autoprune.service.work.publication import Publication, keep_codebooks

_PAGE = 50


def routes(context: ApiContext) -> APIRouter:
    """``/schedules`` and what is below it, and ``/studies/{id}/publish``."""
    router = APIRouter(route_class=PageRoute)
    registry, settings, may = context.registry, context.settings, context.may

    @router.get("/schedules", dependencies=[Depends(may("read"))])
    def names(request: Request, after: str = "") -> Response:
        found = registry.names(_PAGE + 1, after)
        further = found[_PAGE - 1].name if len(found) > _PAGE else None
        return page(request, "schedules.html.j2", names=found[:_PAGE], after=after, further=further)

    @router.get("/schedules/{name}", dependencies=[Depends(may("read"))])
    def one(request: Request, name: Name, after: Annotated[int | None, Query(ge=0, lt=2**31)] = None) -> Response:
        known = registry.get(name)
        found = registry.versions(name, _PAGE + 1, after)
        wanted = next(iter(known.aliases), str(known.latest))
        return page(
            request,
            "schedule.html.j2",
            name=known,
            versions=found[:_PAGE],
            aliases=_by_version(known),
            further=found[_PAGE - 1].version if len(found) > _PAGE else None,
            wanted=wanted,
            fetch=fetching(request, f"/v1/schedules/{name}/versions/{wanted}"),
            python=IN_PYTHON,
            codebooks=kept_codebooks(registry.content(registry.version(name, wanted))),
        )

    @router.post("/studies/{id}/publish")
    def publish(
        id: str,
        name: Annotated[str, Form(pattern=NAME)],
        by: Annotated[str, Form()],
        value: Annotated[Finite, Form()],
        caller: str = Depends(may("write")),
    ) -> Response:
        folder = context.output_file(id, "front.json").parent
        schedule, lineage = Publication(study=id, **wished(way_of(by), value)).of_study(folder)
        registry.publish(name, keep_codebooks(schedule, settings), lineage, caller)
        return RedirectResponse(f"/schedules/{name}", 303)

    @router.post("/schedules/{name}/alias")
    def set_alias(
        name: Name,
        alias: Annotated[str, Form(pattern=WORD)],
        version: Annotated[int, Form(ge=1, lt=2**31)],
        caller: str = Depends(may("write")),
    ) -> Response:
        registry.set_alias(name, alias, version, caller)
        return RedirectResponse(f"/schedules/{name}", 303)

    return router


def _by_version(name: ScheduleName) -> dict[int, list[str]]:
    """Aliases of each version that has some."""
    found: dict[int, list[str]] = {}
    for alias, version in name.aliases.items():
        found.setdefault(version, []).append(alias)
    return found
