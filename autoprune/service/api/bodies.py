"""Bodies of requests: text that the database and the replies can hold."""

from __future__ import annotations

import json

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect


async def check_text(request: Request) -> None:
    """Refuses half of a surrogate pair, which JSON can spell (``"\\ud800"``) and UTF-8 cannot.

    Raises:
        HTTPException: 400, there is one.
    """
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HTTPException(400, "the body holds half of a surrogate pair, which is no text") from None
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply") from None
    except (ValueError, ClientDisconnect):  # no JSON, or nothing: whether the route needs some is for the route to say
        return
