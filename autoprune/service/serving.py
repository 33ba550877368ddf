"""The service as a process: the api, and beside it runners that are started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
import uvicorn

from autoprune.errors import StudyError
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import ensure_schema, open_engine
from autoprune.service.store.tokens import Tokens
from autoprune.service.work.runner import ending_with

log = structlog.get_logger(__name__)
_LOOK_S, _DRAIN_S = 1.0, 60.0


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C; then the runners finish what they are at and give their jobs back.

    Raises:
        StorageError: the database cannot be opened, or has another schema.
        StudyError: others could reach the api, and no token guards it.
    """
    engine = open_engine(settings.database_url)
    if (copy := ensure_schema(engine)) is not None:
        log.info("the database was migrated", copy=str(copy))
    if not settings.is_loopback and not Tokens(engine).exist:
        raise StudyError(
            "would let everybody in",
            field="host",
            value=settings.host,
            remedy="make a token first (`autoprune token create NAME --role admin`), or listen on 127.0.0.1",
        )
    app = create_app(settings, engine)
    server = uvicorn.Server(
        uvicorn.Config(
            app, settings.host, settings.port, server_header=False, timeout_graceful_shutdown=5, log_config=None
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again what ended it, once it has shut down
        signal.signal(number, _ignore)
    with runners(settings):
        server.run()


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Takes a signal that was already followed."""


@contextmanager
def runners(settings: Settings) -> Iterator[None]:
    """Keeps runner processes going within the block."""
    ended = threading.Event()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "autoprune.service.work.runner"],
            env=settings.environment(),
            stdin=subprocess.DEVNULL,
            preexec_fn=ending_with(os.getpid()),
        )

    working = [start() for _ in range(settings.runners)]

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            for place, process in enumerate(working):
                if (code := process.poll()) is not None and not ended.is_set():
                    log.warning("a runner ended and is started again", exit_code=code)
                    working[place] = start()

    watcher = threading.Thread(target=watch, name="runners", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        for process in working:
            process.send_signal(signal.SIGTERM)
        for process in working:
            try:
                process.wait(_DRAIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
