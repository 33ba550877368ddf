"""The service in tests: replies, callers, an app behind a real socket, and a folder with a small study."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import Engine
from support.scenes import save_answered_rows, save_tiny
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
    config = uvicorn.Config(app, port=0, log_level="warning", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
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


def save_root(folder: Path) -> Path:
    """A folder with a small model and rows for it."""
    save_tiny(folder / "model", eos_bias=2.5)
    for name, count, seed in (("calibration", 12, 0), ("validation", 14, 1)):
        (folder / name).mkdir()
        save_answered_rows(folder / name, folder / "model", count=count, seed=seed)
    return folder


def study_in(root: Path, name: str = "tiny", trials: int = 8, **workers: Any) -> dict[str, Any]:
    """A request for a study of what `save_root` made."""
    parts = ("calibration", "validation")
    return {
        "name": name,
        "model": {"path": "model"},
        "data": {part: {"path": f"{part}/{next((root / part).glob('*.jsonl')).name}"} for part in parts},
        "search": {"trials": trials},
        "workers": {"count": 0, **workers},
    }


def waited(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """What a condition returns once it holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.2)
    return found
