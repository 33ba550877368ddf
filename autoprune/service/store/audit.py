"""The audit log: who changed what, and when; written in the transaction of the change, and never changed itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from autoprune.service.store.tables import AUDIT, now

LOCAL, OPERATOR = "local", "operator"
"""Who a caller of an api without tokens is, and who works on the machine itself; no token has these names."""


@dataclass(frozen=True)
class AuditEntry:
    """A change that somebody made.

    Attributes:
        number: Its place in the log.
        at: Seconds since 1970, by the clock of the database.
        who: Name of the token, or `LOCAL` or `OPERATOR`.
        what: Kind of thing and verb: ``study.cancel``.
        on: Id or name of the thing.
        detail: What else tells the change; JSON values.
    """

    number: int
    at: float
    who: str
    what: str
    on: str
    detail: dict[str, Any]


def record(connection: Connection, who: str, what: str, on: str, **detail: Any) -> None:
    """Writes a change into the log, in the transaction that makes it."""
    at = now(connection.dialect)
    connection.execute(insert(AUDIT).values(at=at, who=who, what=what, on=on, detail=json.dumps(detail)))


class Audit:
    """The audit log in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(
        self,
        who: str | None = None,
        what: str | None = None,
        on: str | None = None,
        since: float | None = None,
        limit: int = 50,
        after: int | None = None,
    ) -> Sequence[AuditEntry]:
        """Entries, the newest first, in pages.

        Args:
            who: Only what this one did.
            what: Only changes of this kind.
            on: Only changes of this thing.
            since: Only changes from then on, seconds since 1970.
            limit: Most entries of a page.
            after: Number of the last entry of the page before.
        """
        asked = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        for column, wanted in ((AUDIT.c.who, who), (AUDIT.c.what, what), (AUDIT.c.on, on)):
            if wanted is not None:
                asked = asked.where(column == wanted)
        if since is not None:
            asked = asked.where(AUDIT.c.at >= since)
        if after is not None:
            asked = asked.where(AUDIT.c.number < after)
        with self._engine.begin() as connection:
            rows = connection.execute(asked).all()
        return [AuditEntry(r.number, r.at, r.who, r.what, r.on, json.loads(r.detail)) for r in rows]
