"""Pages from templates: every value is escaped, no script or style of a page stands in the page itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from autoprune.report.words import duration
from autoprune.service.api.access import Caller
from autoprune.service.api.problems import TOLD, refusal_of
from autoprune.service.pages.assets import address_of, styles_of_plotly
from autoprune.service.store.jobs import STATES

_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {_EMPTY}",  # plotly makes an empty style element and then adds its rules one by one
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one, from its template."""
    caller: Caller | None = getattr(request.state, "caller", None)
    shown = _environment().get_template(template).render(caller=caller, here=request.url.path, **values)
    return HTMLResponse(shown, status, {"Content-Security-Policy": _POLICY})


def is_part(request: Request) -> bool:
    """Whether a page that is open asks for a part of itself."""
    return request.headers.get("hx-request") == "true"


def base_of(request: Request) -> str:
    """Where this service is, as the browser came to it."""
    return f"{request.url.scheme}://{request.url.netloc}"


class PageRoute(APIRoute):
    """A route whose errors are pages; who is not known is led to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's function, and what tells its errors."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except TOLD as error:
                refusal = refusal_of(error, request)
                if refusal.status == 401 and request.url.path != "/login":
                    return _to_login(request)
                shown = page(request, "error.html.j2", refusal.status, error=refusal.error.to_dict())
                shown.headers.update(refusal.headers or {})
                if refusal.status == 404 and is_part(request):
                    shown.headers["HX-Refresh"] = "true"  # what the page shows is gone
                return shown

        return told


def _to_login(request: Request) -> Response:
    """The login, and after it what was asked for; of a part, the page that asked for it."""
    if is_part(request):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    then = f"?then={quote(asked, safe='')}" if request.method == "GET" and asked != "/" else ""
    return RedirectResponse(f"/login{then}", 303)


def _when(seconds: float) -> dict[str, str]:
    at = datetime.fromtimestamp(seconds, UTC)
    return {"exact": at.isoformat(timespec="seconds"), "shown": at.strftime("%Y-%m-%d %H:%M UTC")}


@cache
def _environment() -> Environment:
    own, report = PackageLoader("autoprune.service.pages"), PackageLoader("autoprune.report")
    environment = Environment(
        loader=ChoiceLoader([own, report]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"address_of": address_of, "styles_of_plotly": styles_of_plotly, "STATES": STATES}
    environment.filters |= {"when": _when, "duration": duration}
    return environment
