"""The database of a study: opened once, and waited for when it is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from autoprune.errors import StorageError, StudyError
from autoprune.search.outages import TROUBLES, Trouble, trouble_of
from autoprune.search.study_lock import StudyLock
from autoprune.search.workers.protocol import Event, OnEvent

_REMEDIES = {
    Trouble.AWAY: "bring it back and start the study again: it resumes",
    Trouble.FULL: "make room on its disk and start the study again: it resumes",
    Trouble.DAMAGED: "restore it from a backup, or choose another database or output",
}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_UNOPENED = (SQLAlchemyError, NoSuchModuleError, ImportError, StorageInternalError, RuntimeError)
T = TypeVar("T")


class Database:
    """The engine of our tables and Optuna's storage on the same database, used by the driver's thread alone.

    Args:
        url: SQLAlchemy URL; SQLite or PostgreSQL.
        on_event: Is called when the database is away.
        patience_s: Seconds to wait for it.

    Raises:
        StudyError: the URL cannot be opened.
        StorageError: its server is away, or its disk is full.
    """

    def __init__(self, url: str, on_event: OnEvent, patience_s: float) -> None:
        self._on_event, self._patience_s = on_event, patience_s
        self._lock: StudyLock | None = None
        try:
            self.engine = _engine(url)
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            with making_tables(self.engine):
                self.optuna = RDBStorage(url, engine_kwargs=_engine_options(url))
            _write_ahead(self.optuna.engine)
        except _UNOPENED as error:
            raise _not_opened(url, error) from error

    def patiently(self, call: Callable[[], T]) -> T:
        """Calls `call`, again and again while the database is away, so `call` must be repeatable.

        Raises:
            StorageError: the database stayed away, is full or is damaged.
        """
        wait, deadline = _FIRST_WAIT_S, time.monotonic() + self._patience_s
        while True:
            try:
                if self._lock is not None:
                    self._lock.hold()
                return call()
            except TROUBLES as error:
                trouble = trouble_of(error)
                if trouble is None:
                    raise
                is_away = trouble is Trouble.AWAY
                if not is_away or time.monotonic() + wait > deadline:
                    what = f"stayed away for {self._patience_s:.0f} s" if is_away else trouble.value
                    raise StorageError(
                        f"the database {what}: {_reason(error)}", field="storage", remedy=_REMEDIES[trouble]
                    ) from error
                self._on_event(
                    Event("warning", f"the database is away, trying again in {wait:.1f} s: {_reason(error)}")
                )
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
                self.optuna.remove_session()  # it may hold a transaction that only its own rollback ends
                self.engine.dispose()
                self.optuna.engine.dispose()
                if self._lock is not None:
                    self._lock.lost()

    @contextmanager
    def claimed(self, study: str) -> Iterator[None]:
        """Holds a study of this database for this process while the block runs, on whatever machine others are.

        Raises:
            StudyError: another process holds it.
        """
        self._lock = StudyLock(self.engine, study)
        try:
            self.patiently(self._lock.hold)
            yield
        finally:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """Gives the connections back."""
        self.optuna.remove_session()
        self.optuna.engine.dispose()
        self.engine.dispose()


def alone(connection: Connection, what: str) -> None:
    """Waits until no other transaction is at the same thing; the first statement of a transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # of a file, nobody else writes anything then
    else:
        _lock_until_commit(connection, what)


@contextmanager
def making_tables(engine: Engine) -> Iterator[Connection]:
    """A transaction that alone makes tables: studies may begin at once, and a server refuses a table made twice."""
    with engine.begin() as connection:
        if connection.dialect.name != "sqlite":  # whose one writer may be another connection of the same driver
            _lock_until_commit(connection, "tables")
        yield connection


def _lock_until_commit(connection: Connection, what: str) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": f"autoprune {what}"})


def try_database(url: str) -> None:
    """Connects to a database and writes to it, and takes that back; a SQLite file that is not there stays so.

    Raises:
        StudyError: the URL cannot be opened, or not be written.
        StorageError: its server is away, or its disk is full.
    """
    parsed = make_url(url)
    file = Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None
    writing = "BEGIN IMMEDIATE" if file else "CREATE TABLE autoprune_dry_run (n INT)"
    made = file if file and not file.exists() else None
    try:
        engine = create_engine(url, **_engine_options(url))
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(writing)
                connection.rollback()
        finally:
            engine.dispose()
            if made:
                made.unlink(missing_ok=True)
    except _UNOPENED as error:
        raise _not_opened(url, error) from error


def has_trials(url: str) -> bool:
    """Whether a database holds Optuna's tables; it is left as it is.

    Raises:
        StudyError: the URL cannot be opened.
        StorageError: its server is away.
    """
    try:
        engine = create_engine(url, **_engine_options(url))
        try:
            return inspect(engine).has_table("trials")
        finally:
            engine.dispose()
    except _UNOPENED as error:
        raise _not_opened(url, error) from error


def _not_opened(url: str, error: Exception) -> StudyError | StorageError:
    """The error of a database at the start: a job that failed where it may come back, else bad input."""
    trouble, is_file = trouble_of(error), make_url(url).get_backend_name() == "sqlite"
    failed = trouble is Trouble.FULL or (trouble is Trouble.AWAY and not is_file)
    return (StorageError if failed else StudyError)(
        f"the database cannot be opened: {_reason(error)}",
        field="storage",
        value=make_url(url).render_as_string(hide_password=True),
        remedy="check that the URL is right, that the server runs and that you may write to it",
    )


def _engine_options(url: str) -> dict[str, Any]:
    if make_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}
    # The server lets go of the lock of a driver whose machine is gone after half a minute, not after hours.
    alive = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    given = make_url(url).query.get("options", "")
    return {"pool_pre_ping": True, "connect_args": {"options": f"{given} {alive}".strip()}}


def _engine(url: str) -> Engine:
    engine = create_engine(url, **_engine_options(url))
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    _write_ahead(engine)
    return engine


def _write_ahead(engine: Engine) -> None:
    """SQLite: readers (a page, a colleague) never block the one writer, and a commit is one write."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _set(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()  # connections that were opened before


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0][:200]
