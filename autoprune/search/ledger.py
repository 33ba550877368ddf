"""The ledger of a study: results under the address of what they depend on, and every attempt at a trial.

Results depend on model, data, schedule and way of measuring, so the same schedule is never measured twice, whichever
trial or run asks.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from sqlalchemy import Float, Integer, String, Text, UniqueConstraint, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.storage import Database

T = TypeVar("T")
_FIELDS = tuple(f.name for f in fields(SampleResult))


class _Base(DeclarativeBase):
    pass


class _Evaluation(_Base):
    __tablename__ = "autoprune_evaluations"
    __table_args__ = (UniqueConstraint("address", "start", "stop"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    address: Mapped[str] = mapped_column(String(64), index=True)
    model_fingerprint: Mapped[str] = mapped_column(String(128))
    data_digest: Mapped[str] = mapped_column(String(128))
    metric_version: Mapped[str] = mapped_column(String(64))
    schedule_key: Mapped[str] = mapped_column(String(64))
    split: Mapped[str] = mapped_column(String(16))
    start: Mapped[int] = mapped_column(Integer)
    stop: Mapped[int] = mapped_column(Integer)
    results: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)


class _Attempt(_Base):
    __tablename__ = "autoprune_attempts"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study: Mapped[str] = mapped_column(String(512), index=True)
    trial: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    ended: Mapped[float] = mapped_column(Float)


@dataclass(frozen=True)
class DataKey:
    """Everything but the schedule that results on one data set depend on."""

    model_fingerprint: str
    data_digest: str
    metric_version: str
    split: str

    def address(self, schedule: Schedule) -> str:
        """Address of the results of one schedule."""
        parts = (self.model_fingerprint, self.data_digest, self.metric_version, self.split, schedule.key)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Ledger:
    """Results and attempts in the database of a study; every call waits while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.patiently(lambda: _Base.metadata.create_all(database.engine))

    def add(self, key: DataKey, schedule: Schedule, start: int, results: Sequence[SampleResult]) -> None:
        """Writes the results of samples [start, start + len(results)); known ones stay as they are."""
        address, stop = key.address(schedule), start + len(results)

        def write(session: Session) -> None:
            known = select(_Evaluation.id).where(
                _Evaluation.address == address, _Evaluation.start == start, _Evaluation.stop == stop
            )
            if session.scalar(known) is None:
                session.add(
                    _Evaluation(
                        address=address,
                        model_fingerprint=key.model_fingerprint,
                        data_digest=key.data_digest,
                        metric_version=key.metric_version,
                        split=key.split,
                        schedule_key=schedule.key,
                        start=start,
                        stop=stop,
                        results=_pack(results),
                        created=time.time(),
                    )
                )

        self._transact(write)

    def results(self, key: DataKey, schedule: Schedule) -> list[SampleResult]:
        """Results of a schedule from the first sample on, up to the first gap; may be empty."""
        address = key.address(schedule)
        query = select(_Evaluation.start, _Evaluation.results).where(_Evaluation.address == address)
        rows = self._transact(lambda session: session.execute(query.order_by(_Evaluation.start)).all())
        known: list[SampleResult] = []
        for start, packed in rows:
            if start <= len(known):
                known += _unpack(packed)[len(known) - start :]
        return known

    def add_attempt(self, study: str, trial: int, worker: str, outcome: str, reason: str = "") -> None:
        """Writes how one attempt at a trial ended: ``done``, ``failed`` or ``lost``."""
        self._transact(
            lambda session: session.add(
                _Attempt(study=study, trial=trial, worker=worker, outcome=outcome, reason=reason, ended=time.time())
            )
        )

    def _transact(self, work: Callable[[Session], T]) -> T:
        def once() -> T:
            with Session(self._database.engine) as session, session.begin():
                return work(session)

        return self._database.patiently(once)


def _pack(results: Sequence[SampleResult]) -> str:
    """One column per field: a third of the size of one object per sample."""
    return json.dumps({name: [getattr(r, name) for r in results] for name in _FIELDS}, separators=(",", ":"))


def _unpack(packed: str) -> list[SampleResult]:
    columns = json.loads(packed)
    return [SampleResult(*row) for row in zip(*(columns[name] for name in _FIELDS), strict=True)]
