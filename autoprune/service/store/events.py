"""Events of jobs: what their drivers tell, kept so that whoever watches can begin anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, Row, and_, func, insert, literal, select

from autoprune.search.workers.protocol import Event
from autoprune.service.store.jobs import JobRecord, LeaseLostError
from autoprune.service.store.tables import EVENTS, JOBS, now


@dataclass(frozen=True)
class StoredEvent:
    """An event of a job.

    Attributes:
        number: Its place among the events of all jobs.
        kind: As of `Event`.
        content: `Event` as JSON values.
        at: Seconds since 1970.
    """

    number: int
    kind: str
    content: dict[str, Any]
    at: float


class Events:
    """The events in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = now(engine.dialect)

    def add(self, job: JobRecord, events: Sequence[Event]) -> None:
        """Writes events of a job, in their order.

        Raises:
            LeaseLostError: another runner has had it since, or it is deleted.
        """
        mine = and_(JOBS.c.number == job.number, JOBS.c.id == job.id, JOBS.c.epoch == job.epoch)
        with self._engine.begin() as connection:
            for event in events:
                content = json.dumps(asdict(event), default=str)
                # One statement looks and writes, so that nobody takes the job over in between.
                row = select(JOBS.c.number, literal(event.kind), literal(content), self._now).where(mine)
                written = insert(EVENTS).from_select(["job", "kind", "content", "at"], row).returning(EVENTS.c.number)
                if connection.execute(written).first() is None:
                    raise LeaseLostError("is not held any more", field="job", value=job.id)

    def after(
        self, job: JobRecord, number: int = 0, limit: int = 1000, *, kind: str | None = None
    ) -> list[StoredEvent]:
        """Events of a job behind one of them, of one kind or of all."""
        asked = select(EVENTS).where(EVENTS.c.job == job.number, EVENTS.c.number > number)
        if kind is not None:
            asked = asked.where(EVENTS.c.kind == kind)
        with self._engine.begin() as connection:
            rows = connection.execute(asked.order_by(EVENTS.c.number).limit(limit)).all()
        return [_stored(row) for row in rows]

    def newest(self, job: JobRecord, kind: str, limit: int) -> list[StoredEvent]:
        """The last events of a kind, in their order."""
        asked = select(EVENTS).where(EVENTS.c.job == job.number, EVENTS.c.kind == kind)
        with self._engine.begin() as connection:
            rows = connection.execute(asked.order_by(EVENTS.c.number.desc()).limit(limit)).all()
        return [_stored(row) for row in reversed(rows)]

    def latest(self, jobs: Sequence[JobRecord], *kinds: str) -> dict[str, StoredEvent]:
        """The last event of these kinds of each job that has one, by the job's id."""
        ids = {job.number: job.id for job in jobs}
        newest = select(func.max(EVENTS.c.number)).where(EVENTS.c.job.in_(ids), EVENTS.c.kind.in_(kinds))
        asked = select(EVENTS).where(EVENTS.c.number.in_(newest.group_by(EVENTS.c.job)))
        with self._engine.begin() as connection:
            rows = connection.execute(asked).all()
        return {ids[row.job]: _stored(row) for row in rows}


def _stored(row: Row[Any]) -> StoredEvent:
    return StoredEvent(row.number, row.kind, json.loads(row.content), row.at)
