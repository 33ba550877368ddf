"""All pages, outside of the OpenAPI schema."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from autoprune.service.api.access import SAFE_METHODS
from autoprune.service.api.context import ApiContext
from autoprune.service.pages import assets, comparing, login, registry, studies, taking


def routes(context: ApiContext) -> APIRouter:
    """The pages and their files."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(_read_form)])
    for room in (login, studies, comparing, taking, registry):
        router.include_router(room.routes(context))
    router.include_router(assets.routes())
    return router


async def _read_form(request: Request) -> None:
    """Finds what proves that a form is ours, which then needs no script to send a header."""
    if request.method not in SAFE_METHODS:
        request.state.csrf = str((await request.form()).get("csrf", ""))
