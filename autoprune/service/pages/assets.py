"""Files of the pages: each under an address with a digest of its content, so that browsers keep it for ever."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from plotly.offline import get_plotlyjs

from autoprune.report.rendering import asset
from autoprune.service.api.problems import NotThereError

_FOLDER = files("autoprune.service.pages") / "static"
_JS, _CSS = "text/javascript; charset=utf-8", "text/css; charset=utf-8"


def _own(name: str) -> Callable[[], str]:
    return lambda: (_FOLDER / name).read_text(encoding="utf-8")


_FILES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "report.css": (_CSS, lambda: asset("page.css")),
    "pages.css": (_CSS, _own("pages.css")),
    "shared.js": (_JS, lambda: asset("shared.js")),
    "pages.js": (_JS, _own("pages.js")),
    "htmx.min.js": (_JS, _own("htmx.min.js")),
    "plotly.min.js": (_JS, get_plotlyjs),
    "icon.svg": ("image/svg+xml", _own("icon.svg")),
}


@dataclass(frozen=True)
class Asset:
    """A file as it is served."""

    media_type: str
    content: bytes
    packed: bytes
    version: str


@cache
def loaded(name: str) -> Asset:
    """A file of the pages.

    Raises:
        NotThereError: there is none of this name.
    """
    if name not in _FILES:
        raise NotThereError("there is no such file", field="name", value=name)
    media_type, read = _FILES[name]
    content = read().encode()
    return Asset(media_type, content, gzip.compress(content, 6), hashlib.sha256(content).hexdigest()[:12])


def address_of(name: str) -> str:
    """Where a file of the pages is served."""
    return f"/static/{loaded(name).version}/{name}"


@cache
def styles_of_plotly() -> tuple[str, ...]:
    """Ids of style elements that plotly adds when it is loaded, unless they are there: of its maps, which no page has.

    The policy of the pages would refuse them, and say so on the console.
    """
    return tuple(re.findall(r'getElementById\("([0-9a-f]{64})"\)', get_plotlyjs()))


def routes() -> APIRouter:
    """``/static/{version}/{name}``; nothing in them is secret, so that the login page has them too."""
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{version}/{name}")
    def static(request: Request, version: str, name: str) -> Response:
        found = loaded(name)
        keep = "public, max-age=31536000, immutable" if version == found.version else "no-cache"
        headers = {"Cache-Control": keep, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.media_type)
        return Response(found.content, headers=headers, media_type=found.media_type)

    return router
