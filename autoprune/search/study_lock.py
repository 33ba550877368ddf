"""One driver per study of a server's database, enforced by the server."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import StudyHeldError

_RECHECK_S = 1.0


class StudyLock:
    """The right to write to a study: an advisory lock of a PostgreSQL session, which ends with its connection.

    A SQLite file lies in the study's own folder, whose lock (`claimed_folder`) guards it: nothing is done here.

    Args:
        engine: The database.
        study: Name of the study.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine, self._study = engine, study
        self._connection: Connection | None = None
        self._seen = 0.0
        digest = hashlib.sha256(f"autoprune study {study}".encode()).digest()
        self._number = int.from_bytes(digest[:8], "big", signed=True)

    def hold(self) -> None:
        """Takes the lock, or makes sure that the connection that holds it still lives.

        Raises:
            StudyHeldError: another process holds it.
            SQLAlchemyError: the database is away; after `lost` it can be tried again.
        """
        if self._engine.dialect.name != "postgresql":
            return
        if self._connection is not None:
            if time.monotonic() - self._seen > _RECHECK_S:
                self._connection.execute(text("SELECT 1"))
                self._seen = time.monotonic()
            return
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        free = connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": self._number}).scalar_one()
        if not free:
            connection.close()
            raise StudyHeldError(
                "another calibrate is running this study on the same database",
                field="name",
                value=self._study,
                remedy="wait until it ends, or give this study another name",
            )
        self._connection, self._seen = connection, time.monotonic()

    def lost(self) -> None:
        """Forgets the connection after an outage: the server has dropped the lock with it."""
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None

    def release(self) -> None:
        """Gives the lock back; a server that is away has dropped it."""
        if self._connection is not None:
            with suppress(SQLAlchemyError):  # a closed connection alone is noticed by the server only a moment later
                self._connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": self._number})
        self.lost()
