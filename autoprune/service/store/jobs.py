"""Jobs: a table of work that runners lease, so that what a dead runner held is taken over by another one.

Times are those of the database's clock. Whoever took a job holds an epoch of it: a runner that lost its lease and does
not know it yet can change nothing any more, because the next one has raised the epoch.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from autoprune.errors import AutopruneError
from autoprune.service.store.audit import OPERATOR, record
from autoprune.service.store.tables import EVENTS, JOBS, now

Kind = Literal["study", "verification"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_ATTEMPTS = 3
"""Runners that may be lost under a job before it fails: it is then likely to be what kills them."""


class ConflictError(AutopruneError, ValueError):
    """What was asked for does not go with the state of a job, or with another job."""


class UnknownJobError(AutopruneError, KeyError):
    """There is no such job."""


class LeaseLostError(AutopruneError, RuntimeError):
    """Another runner has the job, or may take it."""


@dataclass(frozen=True)
class JobRecord:
    """A job as the database has it.

    Attributes:
        id: Its public name.
        kind: What is to be done.
        name: Of the study; only one job of a kind has it.
        request: What was submitted.
        state: Where it stands.
        epoch: Counts how often it was taken.
        attempts: Runners that took it since it was submitted or resumed and did not give it back.
        runner: Who took it last.
        cancelling: Whether it is to end.
        reason: Why it failed, or what it waits for.
        created: Seconds since 1970, as `started` and `ended`.
    """

    number: int
    id: str
    kind: Kind
    name: str
    request: Mapping[str, Any]
    state: State
    epoch: int
    attempts: int
    runner: str
    cancelling: bool
    reason: str
    created: float
    started: float | None
    ended: float | None


class Jobs:
    """The jobs in a database; every method is one transaction, and what users change is in the audit log.

    Args:
        engine: The database.
        lease_s: Seconds for which a job is taken, unless the lease is renewed.
    """

    def __init__(self, engine: Engine, lease_s: float = 30.0) -> None:
        self.engine, self.lease_s = engine, lease_s
        self._now = now(engine.dialect)

    # -- users ----------------------------------------------------------------------------------------------------

    def submit(
        self, kind: Kind, name: str | None, request: Mapping[str, Any], key: str | None = None, by: str = OPERATOR
    ) -> tuple[JobRecord, bool]:
        """Adds a job, once for each idempotency key.

        Args:
            kind: What is to be done.
            name: Which no other job of the kind has; None = its id.
            request: What was submitted.
            key: The idempotency key.
            by: Who submits it.

        Returns:
            The job, and whether it is new.

        Raises:
            ConflictError: the key came with another request, or the name is taken.
        """
        content = json.dumps(request, sort_keys=True)
        digest = hashlib.sha256(f"{kind}\n{content}".encode()).hexdigest()
        job_id = secrets.token_hex(8)
        row = {"id": job_id, "kind": kind, "name": name or job_id, "request": content, "digest": digest}
        try:
            with self.engine.begin() as connection:
                if key is not None and (known := self._one(connection, JOBS.c.idempotency_key == key)) is not None:
                    return _same_request(known, digest), False
                number = connection.execute(
                    insert(JOBS).values(**row, idempotency_key=key, state="queued", created=self._now)
                ).inserted_primary_key
                assert number is not None
                record(connection, by, f"{kind}.submit", job_id, name=row["name"])
                return _job(self._one(connection, JOBS.c.number == number[0])), True
        except IntegrityError:  # somebody was faster
            with self.engine.begin() as connection:
                if key is not None and (known := self._one(connection, JOBS.c.idempotency_key == key)) is not None:
                    return _same_request(known, digest), False
                holder = self._one(connection, and_(JOBS.c.kind == kind, JOBS.c.name == name))
        remedy = "choose another name, or delete that one"
        if holder is not None and holder.state in ("failed", "cancelled"):
            remedy = f"choose another name, or resume or delete {holder.id}"
        raise ConflictError("a study of this name exists", field="name", value=name, remedy=remedy)

    def get(self, job_id: str, kind: Kind | None = None) -> JobRecord:
        """A job.

        Raises:
            UnknownJobError: there is none of this id, or it is of another kind.
        """
        with self.engine.begin() as connection:
            return self._known(connection, job_id, kind)

    def page(
        self, kind: Kind, state: State | None = None, limit: int = 50, after: str | None = None
    ) -> Sequence[JobRecord]:
        """Jobs of a kind, the newest first, in pages.

        Args:
            kind: Of the jobs.
            state: Only those that stand there.
            limit: Most jobs of a page.
            after: The last job of the page before.

        Raises:
            UnknownJobError: `after` is no job.
        """
        asked = select(JOBS).where(JOBS.c.kind == kind).order_by(JOBS.c.number.desc()).limit(limit)
        with self.engine.begin() as connection:
            if state is not None:
                asked = asked.where(JOBS.c.state == state)
            if after is not None:
                asked = asked.where(JOBS.c.number < self._known(connection, after, kind).number)
            return [_job(row) for row in connection.execute(asked)]

    def cancel(self, job_id: str, by: str = OPERATOR) -> JobRecord:
        """Ends a job that waits; lets one that runs finish what it is at, and end.

        Raises:
            UnknownJobError: there is none of this id.
            ConflictError: it has ended.
        """
        waiting = {"state": "cancelled", "ended": self._now, "reason": "", "lease_until": None, "cancelling": False}
        with self.engine.begin() as connection:
            job = self._known(connection, job_id)
            mine = JOBS.c.number == job.number
            if self._change(connection, and_(mine, JOBS.c.state == "queued"), **waiting) is None:
                running = and_(mine, JOBS.c.state == "running")
                if self._change(connection, running, cancelling=True) is None:
                    raise ConflictError(
                        f"has ended ({job.state})", field="id", value=job_id, remedy="it can be resumed or deleted"
                    )
            record(connection, by, f"{job.kind}.cancel", job_id, name=job.name)
            return self._known(connection, job_id)

    def resume(self, job_id: str, by: str = OPERATOR) -> JobRecord:
        """Queues a job again that failed or was cancelled.

        Raises:
            UnknownJobError: there is none of this id.
            ConflictError: it is done, waits or runs.
        """
        with self.engine.begin() as connection:
            job = self._known(connection, job_id)
            stopped = and_(JOBS.c.number == job.number, JOBS.c.state.in_(("failed", "cancelled")))
            again = {"state": "queued", "attempts": 0, "cancelling": False, "reason": "", "ended": None}
            if self._change(connection, stopped, **again) is None:
                raise ConflictError(
                    f"is {job.state}", field="id", value=job_id, remedy="what failed or was cancelled can be resumed"
                )
            record(connection, by, f"{job.kind}.resume", job_id, name=job.name)
            return self._known(connection, job_id)

    def delete(
        self, job_id: str, by: str = OPERATOR, also: Callable[[JobRecord], None] = lambda job: None
    ) -> JobRecord:
        """Removes a job that has ended, and its events.

        Args:
            job_id: The job.
            by: Who removes it.
            also: Removes what belongs to it, before its name is free for another; what this raises keeps the job.

        Raises:
            UnknownJobError: there is none of this id.
            ConflictError: it has not ended.
        """
        with self.engine.begin() as connection:
            job = self._known(connection, job_id)
            gone = delete(JOBS).where(JOBS.c.number == job.number, JOBS.c.state.in_(ENDED)).returning(JOBS.c.number)
            connection.execute(delete(EVENTS).where(EVENTS.c.job == job.number))
            if connection.execute(gone).first() is None:
                raise ConflictError(f"is {job.state}", field="id", value=job_id, remedy="cancel it first")
            record(connection, by, f"{job.kind}.delete", job_id, name=job.name)
            also(job)
            return job

    # -- runners --------------------------------------------------------------------------------------------------

    def claim(self, runner: str) -> JobRecord | None:
        """Takes the job that was submitted first and may be taken, or whose runner was lost; None if there is none."""
        with self.engine.begin() as connection:
            self._end_lost(connection)
            due = or_(JOBS.c.lease_until.is_(None), JOBS.c.lease_until < self._now)
            free = or_(and_(JOBS.c.state == "queued", due), self._lost)
            first = select(JOBS.c.number).where(free).order_by(JOBS.c.number).limit(1).with_for_update(skip_locked=True)
            row = self._change(
                connection,
                JOBS.c.number == first.scalar_subquery(),
                state="running",
                epoch=JOBS.c.epoch + 1,
                attempts=JOBS.c.attempts + 1,
                runner=runner,
                reason="",
                started=func.coalesce(JOBS.c.started, self._now),
                lease_until=self._now + self.lease_s,
            )
            return None if row is None else _job(row)

    def renew(self, job: JobRecord) -> JobRecord:
        """Prolongs the lease; the job as it is now, which says whether it is to end.

        Raises:
            LeaseLostError: another runner may have it.
        """
        return self._held(job, lease_until=self._now + self.lease_s)

    def finish(self, job: JobRecord, state: State, reason: str = "") -> JobRecord:
        """Ends a job.

        Raises:
            LeaseLostError: another runner may have it.
        """
        return self._held(job, state=state, reason=reason, ended=self._now, lease_until=None, cancelling=False)

    def give_back(
        self, job: JobRecord, waits_for: str = "", after_s: float = 0.0, *, counted: bool = False
    ) -> JobRecord:
        """Queues a job again whose runner ends in order.

        Args:
            job: The job.
            waits_for: What it needs and cannot get now, for whoever looks at it.
            after_s: Seconds in which nobody takes it, so that those behind it get their turn.
            counted: Whether the attempt counts as one that lost its runner.

        Raises:
            LeaseLostError: another runner may have it.
        """
        attempts = JOBS.c.attempts if counted else JOBS.c.attempts - 1
        until = self._now + after_s if after_s else None
        return self._held(job, state="queued", attempts=attempts, reason=waits_for, lease_until=until)

    @property
    def _lost(self) -> Any:
        return and_(JOBS.c.state == "running", JOBS.c.lease_until < self._now)

    def _end_lost(self, connection: Connection) -> None:
        """Ends lost jobs that were to end, and those that lost too many runners."""
        ended = {"state": "cancelled", "ended": self._now, "cancelling": False}
        self._change(connection, and_(self._lost, JOBS.c.cancelling), **ended)
        reason = f"its runner was lost {MOST_ATTEMPTS} times; resume it once the cause is known"
        worn = and_(self._lost, JOBS.c.attempts >= MOST_ATTEMPTS)
        self._change(connection, worn, state="failed", reason=reason, ended=self._now)

    def _held(self, job: JobRecord, **values: Any) -> JobRecord:
        mine = and_(JOBS.c.number == job.number, JOBS.c.id == job.id)  # numbers of deleted jobs may come again
        held = and_(mine, JOBS.c.epoch == job.epoch, JOBS.c.state == "running")
        with self.engine.begin() as connection:
            row = self._change(connection, held, **values)
        if row is None:
            raise LeaseLostError("is not held any more", field="job", value=job.id)
        return _job(row)

    def _known(self, connection: Connection, job_id: str, kind: Kind | None = None) -> JobRecord:
        row = self._one(connection, JOBS.c.id == job_id)
        if row is None or kind not in (None, row.kind):
            raise UnknownJobError(f"no such {kind or 'job'}", field="id", value=job_id)
        return _job(row)

    @staticmethod
    def _one(connection: Connection, where: Any) -> Row[Any] | None:
        return connection.execute(select(JOBS).where(where)).first()

    @staticmethod
    def _change(connection: Connection, where: Any, **values: Any) -> Row[Any] | None:
        return connection.execute(update(JOBS).where(where).values(**values).returning(*JOBS.c)).first()


def _same_request(row: Row[Any], digest: str) -> JobRecord:
    if row.digest != digest:
        raise ConflictError(
            "came before with another request",
            field="Idempotency-Key",
            value=row.idempotency_key,
            remedy="use a new key",
        )
    return _job(row)


def _job(row: Row[Any] | None) -> JobRecord:
    assert row is not None, "rows are read where they were just found"
    fields = {name: getattr(row, name) for name in JobRecord.__dataclass_fields__}
    return JobRecord(**{**fields, "request": json.loads(row.request), "cancelling": bool(row.cancelling)})
