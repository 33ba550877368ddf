"""The service as a process: the api, and beside it runners that are started again when they die."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
import uvicorn

from autoprune.errors import StudyError
from autoprune.search.addresses import url_of
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.tokens import Tokens

log = structlog.get_logger(__name__)
_LOOK_S, _DRAIN_S = 1.0, 60.0
_OTHER_HOST = "use an address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for all that reach it"


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C; then the runners finish what they are at and give their jobs back.

    Raises:
        StorageError: the database cannot be opened, or has another schema.
        StudyError: others could reach the api, and no token guards it; or it cannot listen there.
    """
    engine = open_database(settings.database_url)
    if not settings.is_loopback and not Tokens(engine).exist:
        raise StudyError(
            "would let everybody in",
            field="host",
            value=settings.host,
            remedy="make a token first (`autoprune token create NAME --role admin`), or listen on 127.0.0.1",
        )
    sockets = listeners(settings.host, settings.port)  # before anything is started that would have to end again
    app = create_app(settings, engine)
    server = uvicorn.Server(
        uvicorn.Config(
            app, settings.host, settings.port, server_header=False, timeout_graceful_shutdown=5, log_config=None
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again what ended it, once it has shut down
        signal.signal(number, _ignore)
    with runners(settings):
        server.run(sockets)


def listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of a host, such as those of ``localhost``.

    Raises:
        StudyError: the host is none of this machine, or the port cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise StudyError("cannot be resolved", field="host", value=host, remedy=_OTHER_HOST) from None
    sockets: list[socket.socket] = []
    absent = "it has no address"
    for family, (name, wanted, *more) in dict.fromkeys((family, address) for family, _, _, _, address in found):
        shared = sockets[0].getsockname()[1] if sockets else wanted  # 0 = any that is free, the same for all
        try:
            sockets.append(socket.create_server((name, shared, *more), family=family))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # as ::1 where a machine has no IPv6
                absent = os.strerror(error.errno)
                continue
            for opened in sockets:
                opened.close()
            taken = error.errno == errno.EADDRINUSE
            said = "is taken by another program" if taken else f"cannot be had: {os.strerror(error.errno or 0)}"
            raise StudyError(said, field="port", value=port, remedy="use another one, or end what has it") from None
    if not sockets:
        raise StudyError(f"is not of this machine: {absent}", field="host", value=host, remedy=_OTHER_HOST)
    log.info("the service listens", url=url_of(host, sockets[0].getsockname()[1]))
    return sockets


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Takes a signal that was already followed."""


@contextmanager
def runners(settings: Settings) -> Iterator[None]:
    """Keeps runner processes going within the block, and lets them end in order behind it."""
    ended = threading.Event()
    # One thread starts them all and outlives them: a runner is told to end when the thread that started it does.
    keeper = threading.Thread(target=_keep, args=(settings, ended), name="runners", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _keep(settings: Settings, ended: threading.Event) -> None:
    working: list[subprocess.Popen[bytes]] = []
    while not ended.is_set():
        for process in [process for process in working if process.poll() is not None]:
            log.warning("a runner ended and is started again", exit_code=process.returncode)
            working.remove(process)
        try:
            while len(working) < settings.runners:
                working.append(_started(settings))
        except OSError as error:  # no room for a process now
            log.warning("a runner cannot be started", error=str(error))
        ended.wait(_LOOK_S)
    for process in working:
        process.send_signal(signal.SIGTERM)
    for process in working:
        try:
            process.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _started(settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "autoprune.service.work.runner", str(os.getpid())],
        env=settings.environment(),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the service alone, which tells them
    )
