"""``autoprune dashboard``: Optuna's own pages about the trials of studies."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug
from autoprune.cli.output import note

if TYPE_CHECKING:
    from autoprune.search.storage import Database


def dashboard(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Output folder of a study.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URL", envvar="AUTOPRUNE_STORAGE", help="Database of studies; default: RUN's own."
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 = any that is free.")
    ] = 8080,
    debug: Debug = False,
) -> None:
    """Show the trials of studies in optuna-dashboard, for reading alone, until Ctrl-C."""
    import importlib.util

    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ModuleNotFoundError("No module named 'optuna_dashboard'", name="optuna_dashboard")
    from autoprune.search.addresses import is_loopback, url_of
    from autoprune.search.dashboard import REPORT, dashboard_server

    folder = None if run is None else _folder_of(run)
    database = _opened(folder, storage)
    report = None if folder is None else folder / REPORT
    try:
        server = dashboard_server(database.optuna, report, host, port)
    except OSError as error:
        raise _refused(error, host, port) from None
    if not is_loopback(host):
        note("warning: it asks for no password: whoever reaches this address can read all studies of the database")
    note(f"{url_of(host, server.server_port)}/  (reading alone; Ctrl-C ends it)")
    with server:
        server.serve_forever()


def _refused(error: OSError, host: str, port: int) -> InputError:
    """The error of a server that cannot listen, by the option that it is about."""
    if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return InputError(
            f"is no address of this machine: {error.strerror}", field="--host", value=host, remedy="use 127.0.0.1"
        )
    return InputError(f"cannot listen there: {error.strerror}", field="--port", value=port, remedy="name another port")


def _folder_of(run: str) -> Path:
    folder = Path(run).expanduser()
    if not folder.is_dir():
        raise InputError("no such folder", field="RUN", value=run, remedy="give the output folder of a study")
    return folder


def _opened(folder: Path | None, storage: str | None) -> Database:
    """The database of RUN, or the one that is named; neither a SQLite file nor tables are made."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from autoprune.search.storage import Database, has_trials
    from autoprune.search.workers.protocol import ignore

    if storage is None:
        if folder is None:
            raise InputError("needs RUN or --storage", field="RUN", remedy="give the output folder of a study")
        storage = f"sqlite:///{(folder / 'study.db').as_posix()}"
    try:
        url = make_url(storage)
    except ArgumentError:
        remedy = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        raise InputError("is no database URL", field="--storage", value=storage, remedy=remedy) from None
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise InputError(
            "there is no such database", field="--storage", value=storage, remedy="give the URL that the study ran with"
        )
    if not has_trials(storage):  # to look must not make tables
        raise InputError(
            "holds no tables of Optuna", field="--storage", value=url.render_as_string(hide_password=True),
            remedy="give the URL that the study ran with",
        )  # fmt: skip
    return Database(storage, ignore, 0.0)
