"""The login: a token once, then a cookie that pages and event streams send by themselves."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import DeniedError
from autoprune.service.pages.rendering import PageRoute, page

_HOME = "/studies"
_OWN = re.compile(r"/(?![/\\])[^\x00-\x20\\]*")  # browsers drop tabs and line ends: "/\t/x" is "//x"


def routes(context: ApiContext) -> APIRouter:
    """``/login`` and ``/logout``."""
    router = APIRouter(route_class=PageRoute)
    access = context.access

    @router.get("/login")
    def form(request: Request, then: str = _HOME) -> Response:
        if access.is_open:
            return RedirectResponse(_HOME, 303)
        return page(request, "login.html.j2", then=_own(then), problem=None)

    @router.post("/login")
    def log_in(request: Request, token: Annotated[str, Form()], then: Annotated[str, Form()] = _HOME) -> Response:
        reply = RedirectResponse(_own(then), 303)
        try:
            access.log_in(request, reply, token.strip())
        except DeniedError as error:
            shown = page(request, "login.html.j2", error.status, then=_own(then), problem=error.to_dict())
            shown.headers.update(error.headers or {})
            return shown
        return reply

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        reply = RedirectResponse("/login", 303)
        access.log_out(request, reply)
        return reply

    return router


def _own(address: str) -> str:
    """An address of this service; whatever leads elsewhere becomes the start."""
    return address if _OWN.fullmatch(address) else _HOME
