"""The service's api in tests: replies, callers, and an app behind a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from sqlalchemy import Engine
from uvicorn._types import ASGIApplication

from autoprune.service.store.tokens import ROLES, Tokens


def problem(reply: Any, status: int) -> dict[str, Any]:
    """The error of a reply with this status, in the shape of all errors."""
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"field", "value", "message", "remedy"}
    return error


def with_tokens(engine: Engine) -> dict[str, dict[str, str]]:
    """Headers of a caller with each role; the name of the token is the role's."""
    tokens = Tokens(engine)
    return {role: {"Authorization": f"Bearer {tokens.create(role, role)}"} for role in ROLES}


@contextmanager
def listening(app: ASGIApplication) -> Iterator[str]:
    """An app behind a real socket, in a thread of this process; its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
