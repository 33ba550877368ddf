"""Kinds of trouble with a database, by the errors that SQLAlchemy and Optuna raise: away, full, or damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import Enum

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Trouble(Enum):
    """What an error means for a study."""

    AWAY = "is away"
    """It may come back: restarted, failed over, locked, out of connections."""
    FULL = "is full"
    DAMAGED = "is damaged"


TROUBLES = (DBAPIError, PendingRollbackError, PoolTimeoutError, StorageInternalError)
"""What a call of a database raises when there is trouble; Optuna wraps what SQLAlchemy raised."""

_SQLITE = {
    sqlite3.SQLITE_BUSY: Trouble.AWAY,
    sqlite3.SQLITE_LOCKED: Trouble.AWAY,
    sqlite3.SQLITE_IOERR: Trouble.AWAY,
    sqlite3.SQLITE_CANTOPEN: Trouble.AWAY,
    sqlite3.SQLITE_PROTOCOL: Trouble.AWAY,
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
}
_POSTGRES = {"53100": Trouble.FULL, "XX001": Trouble.DAMAGED, "XX002": Trouble.DAMAGED}
_PRIMARY = 0xFF  # of SQLite's extended codes


def trouble_of(error: BaseException) -> Trouble | None:
    """The trouble that an error tells of; None if it is none that a database can have by itself."""
    for cause in _causes(error):
        if isinstance(cause, (PendingRollbackError, PoolTimeoutError)):
            return Trouble.AWAY
        if isinstance(cause, DBAPIError):
            return _told(cause)
    return None


def _told(error: DBAPIError) -> Trouble | None:
    if isinstance(error.orig, sqlite3.Error):
        return _SQLITE.get(error.orig.sqlite_errorcode & _PRIMARY)
    if (state := getattr(error.orig, "sqlstate", None)) in _POSTGRES:
        return _POSTGRES[state]
    away = isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated
    return Trouble.AWAY if away else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
