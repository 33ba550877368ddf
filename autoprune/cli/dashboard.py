"""``autoprune dashboard``: Optuna's own pages about the trials of studies."""

from __future__ import annotations

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
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, help="Port; 0 = any that is free.")] = 8080,
    debug: Debug = False,
) -> None:
    """Show the trials of studies in optuna-dashboard, for reading alone, until Ctrl-C."""
    import importlib.util

    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ModuleNotFoundError("No module named 'optuna_dashboard'", name="optuna_dashboard")
    from autoprune.search.dashboard import REPORT, dashboard_server

    folder = None if run is None else _folder_of(run)
    database = _opened(folder, storage)
    report = None if folder is None else folder / REPORT
    try:
        server = dashboard_server(database.optuna, report, host, port)
    except OSError as error:
        raise InputError(
            f"cannot listen there: {error.strerror}", field="--port", value=port, remedy="name another port"
        ) from None
    if host not in ("127.0.0.1", "localhost", "::1"):
        note("warning: it asks for no password: whoever reaches this address can read all studies of the database")
    note(f"http://{host}:{server.server_port}/  (reading alone; Ctrl-C ends it)")
    with server:
        server.serve_forever()


def _folder_of(run: str) -> Path:
    folder = Path(run).expanduser()
    if not folder.is_dir():
        raise InputError("no such folder", field="RUN", value=run, remedy="give the output folder of a study")
    return folder


def _opened(folder: Path | None, storage: str | None) -> Database:
    """The database of RUN, or the one that is named; a SQLite file that is not there is not made."""
    from sqlalchemy.engine import make_url

    from autoprune.search.storage import Database
    from autoprune.search.workers.protocol import ignore

    if storage is None:
        if folder is None:
            raise InputError("needs RUN or --storage", field="RUN", remedy="give the output folder of a study")
        storage = f"sqlite:///{(folder / 'study.db').as_posix()}"
    url = make_url(storage)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise InputError(
            "there is no such database", field="--storage", value=storage, remedy="give the URL that the study ran with"
        )
    return Database(storage, ignore, 0.0)
