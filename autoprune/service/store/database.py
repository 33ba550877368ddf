"""The database of the service: opened, and brought to the schema that this release knows."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from autoprune.errors import StorageError

log = logging.getLogger(__name__)  # not structlog, which writes to stdout where nobody has set it up: commands
_BUSY_S = 15
"""Seconds for which SQLite waits for another writer; less than a lease, so that a driver still learns of it in time."""
_LIVENESS = {
    "connect_timeout": 10,  # s
    "tcp_user_timeout": 15_000,  # ms in which what was sent must arrive
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 2,
}
"""For PostgreSQL, after libpq's documentation: a server that is gone is an error within a lease."""
VERSION_TABLE = "autoprune_alembic_version"
"""Of this schema; Optuna keeps its own version in the same database."""


def open_engine(url: str) -> Engine:
    """An engine on the database; the folder of a SQLite file is made.

    Raises:
        StorageError: no database can be opened there.
    """
    parsed = _known_kind(url)
    with _told(url):
        if parsed.get_backend_name() != "sqlite":
            unsaid = {name: value for name, value in _LIVENESS.items() if name not in parsed.query}
            engine = create_engine(url, pool_pre_ping=True, connect_args=unsaid)
        else:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(url, connect_args={"timeout": _BUSY_S})
            event.listen(engine, "connect", _prepare_sqlite)
        with engine.connect():
            return engine


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of a database that is being opened, in words."""
    try:
        yield
    except (SQLAlchemyError, ImportError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0][:200]
        raise StorageError(
            f"the database of the service cannot be opened: {reason}",
            field="database",
            value=make_url(url).render_as_string(hide_password=True),
            remedy="check that the URL is right, that the server runs, that you may write to it and nobody locks it",
        ) from error


def _known_kind(url: str) -> URL:
    with suppress(ArgumentError):
        if (parsed := make_url(url)).get_backend_name() in ("sqlite", "postgresql"):
            return parsed
    raise StorageError(
        "is no URL of a SQLite file or of a PostgreSQL server",  # and may hold a password, so it is not shown
        field="database",
        remedy="write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
    )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def open_database(url: str) -> Engine:
    """The database of the service with its tables; see `open_engine` and `ensure_schema`.

    Raises:
        StorageError: it cannot be opened, or has another schema.
    """
    engine = open_engine(url)
    with _told(url):
        copy = ensure_schema(engine)
    if copy is not None:
        log.warning("the database was migrated; as it was before it is kept in %s", copy)
    return engine


@contextmanager
def migration_config(engine: Engine) -> Iterator[tuple[Config, Connection]]:
    """Alembic's configuration on a connection of the engine, in a transaction that holds for tables as well."""
    config = Config()
    config.set_main_option("script_location", "autoprune.service.store:migrations")
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # sqlite3 begins before the first change of a row, too late for tables
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        yield config, connection


def revision_of(connection: Connection) -> str | None:
    """Revision of the schema in the database; None where the service has no tables yet."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Brings the schema to the newest revision.

    Raises:
        StorageError: the database was written by a newer release.
    """
    with migration_config(engine) as (config, connection):
        if engine.dialect.name == "postgresql":  # several processes may begin at once
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('autoprune schema'))"))
        _refuse_newer(config, revision_of(connection))
        command.upgrade(config, "head")


def ensure_schema(engine: Engine) -> Path | None:
    """Makes the tables of an empty database, and migrates an older SQLite file after a copy of it.

    Returns:
        The copy, if one was made.

    Raises:
        StorageError: the database was written by a newer release; or a server's database by an older one, which only
            `upgrade` changes.
    """
    with migration_config(engine) as (config, connection):
        found, newest = revision_of(connection), ScriptDirectory.from_config(config).get_current_head()
        _refuse_newer(config, found)
    if found == newest:
        return None
    copy: Path | None = None
    if found is not None:
        if engine.dialect.name != "sqlite":
            raise StorageError(
                "the database was written by an older release",
                field="database",
                value=found,
                remedy="back it up, stop all runners, and run `autoprune db upgrade`",
            )
        copy = _copied(Path(str(engine.url.database)), found)
    upgrade(engine)
    return copy


def _refuse_newer(config: Config, found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StorageError(
            "the database was written by a newer release of autoprune",
            field="database",
            value=found,
            remedy="install that release, or restore the backup that was made before the upgrade",
        )


def _copied(file: Path, revision: str) -> Path:
    """A copy of a SQLite file, made by SQLite itself, so that what others are writing is whole or not in it."""
    copies = (file.with_name(f"{file.name}.{revision}.{number}.backup") for number in itertools.count(1))
    copy = next(one for one in copies if not one.exists())
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.partial")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(partial)) as target:
        source.backup(target)
    shutil.move(partial, copy)
    return copy
