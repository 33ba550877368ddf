"""The border of the api: by which name of this machine it answers, what it takes in, and headers for browsers."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoprune.errors import AutopruneError
from autoprune.search.addresses import host_in, is_loopback
from autoprune.service.api.access import SAFE_METHODS
from autoprune.service.api.problems import HEADERS, reply


class Border:
    """Refuses names that this machine does not have and changes that pages of other sites ask for; adds headers.

    Args:
        app: The app.
        local_only: Whether the api listens on a loopback address: a page elsewhere whose name was made to lead here is
            then told by the name that it asks for (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, local_only: bool) -> None:
        self._app, self._local_only = app, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = host_in(Headers(scope=scope).get("host", ""))
        if self._local_only and not is_loopback(host):
            refused = AutopruneError("is no name of this machine", field="Host", value=host)
            await reply(421, refused)(scope, receive, send)
            return
        if scope["method"] not in SAFE_METHODS and _is_foreign(Headers(scope=scope)):
            refused = AutopruneError("comes from a page of another site", field="Origin")
            await reply(403, refused)(scope, receive, send)
            return

        too_large = False

        async def adding(message: Message) -> None:
            nonlocal too_large
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                too_large = message["status"] == 413 and headers.get("content-type", "").startswith("text/plain")
                if too_large:  # starlette says so in plain text
                    await reply(413, AutopruneError("the body is too large", remedy="send less"))(scope, receive, send)
                    return
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            if not too_large:
                await send(message)

        await self._app(scope, receive, adding)


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser asks on behalf of a page of another site; a page cannot send a bearer token of its own accord.

    Browsers say so by Sec-Fetch-Site where the connection is secure or local, and else by Origin, which they send with
    everything that is not safe. What is no browser sends neither.
    """
    if headers.get("authorization", "").lower().startswith("bearer "):
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
