"""Optuna's dashboard beside a study: the note that leads from it to the report, and the server, for reading alone."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from autoprune.search.addresses import host_in, is_loopback

REPORT = "report.html"
REPORT_PATH = f"/{REPORT}"
"""Where the server shows the report of the study that it was started for."""
_TEXT, _VERSION = "dashboard:note_str:", "dashboard:note_ver"
_LONGEST = 2045
"""Attributes of a study in which optuna-dashboard keeps its note, and the characters that one of them takes."""
_READING = ("GET", "HEAD", "OPTIONS")
_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]


def attach_note(storage: optuna.storages.BaseStorage, study: str, folder: Path) -> bool:
    """Note on a study, as optuna-dashboard keeps notes, where its report is; one that somebody wrote in stays.

    Args:
        storage: Optuna's tables.
        study: Name of the study.
        folder: Its output folder.

    Returns:
        Whether the note stands there now.
    """
    key = storage.get_study_id_from_name(study)
    known, wanted = storage.get_study_system_attrs(key), note(study, folder)
    parts = {name: text for name, text in known.items() if name.startswith(_TEXT)}
    found = "".join(parts[f"{_TEXT}{i}"] for i in range(len(parts)))
    if found and not _is_ours(found, study):
        return False
    if found != wanted:
        cut = [wanted[start : start + _LONGEST] for start in range(0, len(wanted), _LONGEST)]
        cut += [""] * (len(parts) - len(cut))
        for i, text in enumerate(cut):
            storage.set_study_system_attr(key, f"{_TEXT}{i}", text)
        storage.set_study_system_attr(key, _VERSION, known.get(_VERSION, 0) + 1)
    return True


def note(study: str, folder: Path) -> str:
    """The note, as Markdown."""
    report = (folder / REPORT).resolve()
    return _note(study, str(report), report.as_uri())


def _note(study: str, report: str, url: str) -> str:
    return (
        f"# autoprune: {study}\n\n"
        f"Report: [{report}]({url}); under `autoprune dashboard RUN`: [{REPORT}]({REPORT_PATH}).\n\n"
        "The values of a trial are those of the calibration rows; the report holds the validation rows and intervals."
    )


def _is_ours(found: str, study: str) -> bool:
    """Whether a note is what stands there for some folder, and nothing more."""
    before, between, after = (re.escape(part) for part in _note(study, "\0", "\0").split("\0"))
    return re.fullmatch(f"{before}.*{between}.*{after}", found) is not None


def read_only(app: _App, report: Path | None, local_only: bool) -> _App:
    """The dashboard's WSGI app without the requests that change something, which it would take from anybody.

    Args:
        app: The app.
        report: A page to show at `REPORT_PATH`.
        local_only: Whether it is asked for by names of this machine alone: a page from elsewhere reaches it by a name
            of its own (DNS rebinding).
    """

    def guarded(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        if local_only and not is_loopback(host_in(environ.get("HTTP_HOST", ""))):
            return _answer(start, HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"there is no such name here")
        if environ["REQUEST_METHOD"] not in _READING:
            return _answer(start, HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"this dashboard is for reading alone")
        if report is not None and environ.get("PATH_INFO") == REPORT_PATH and report.is_file():
            return _answer(start, HTTPStatus.OK, "text/html; charset=utf-8", report.read_bytes())
        return app(environ, start)

    return guarded


def _answer(start: _Start, status: HTTPStatus, kind: str, body: bytes) -> list[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


class PageServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI app, every request in a thread of its own."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        super().__init__(address, handler)


def dashboard_server(storage: optuna.storages.BaseStorage, report: Path | None, host: str, port: int) -> PageServer:
    """A server of the dashboard that listens already; `serve_forever` answers.

    Args:
        storage: Optuna's tables.
        report: The report of the study that is looked at; None = of none.
        host: Address to listen on; on one of this machine alone, requests that come by other names are refused.
        port: Port; 0 = any that is free.

    Raises:
        ModuleNotFoundError: optuna-dashboard is not installed.
        OSError: the host is none of this machine, or the port is taken.
    """
    from optuna_dashboard import wsgi

    app = read_only(wsgi(storage), report, is_loopback(host))
    return make_server(host, port, app, server_class=PageServer, handler_class=_Silent)


class _Silent(WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
