"""The ledger of a study: results under the address of what they depend on, and every attempt at a trial.

Results depend on model, data, schedule and way of measuring, so the same schedule is never measured twice on the same
row, whichever trial or run asks.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TypeVar

import optuna
from sqlalchemy import Connection, Float, Integer, Select, String, Text, UniqueConstraint, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.storage import Database, alone, making_tables
from autoprune.search.workers.protocol import ignore

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


def create_tables(connection: Connection) -> None:
    """Makes the tables of the ledger where they are missing."""
    _Base.metadata.create_all(connection)


def forget_study(url: str, study: str) -> None:
    """Removes the trials and attempts of a study from a database; results stay, at the address of what they depend on.

    Raises:
        StudyError: the URL cannot be opened.
        StorageError: the database is away.
    """
    database = Database(url, ignore, 0.0)
    try:
        with suppress(KeyError):  # it has not begun
            optuna.delete_study(study_name=study, storage=database.optuna)
        with making_tables(database.engine) as connection:
            create_tables(connection)
            connection.execute(delete(_Attempt).where(_Attempt.study == study))
    finally:
        database.close()


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
        database.patiently(self._make_tables)

    def _make_tables(self) -> None:
        with making_tables(self._database.engine) as connection:
            create_tables(connection)

    def add(self, key: DataKey, schedule: Schedule, results: Sequence[SampleResult]) -> None:
        """Writes the results of some rows of a schedule; those of rows that are known stay as they are."""
        address = key.address(schedule)

        def write(session: Session) -> None:
            alone(session.connection(), address)  # two studies of one model may measure the same schedule
            packs = session.execute(_packs(address)).all()
            known, start = _by_row(pack.results for pack in packs), max((pack.stop for pack in packs), default=0)
            new = [result for result in results if result.index not in known]
            if new:
                session.add(
                    _Evaluation(
                        address=address,
                        model_fingerprint=key.model_fingerprint,
                        data_digest=key.data_digest,
                        metric_version=key.metric_version,
                        split=key.split,
                        schedule_key=schedule.key,
                        start=start,
                        stop=start + len(new),
                        results=_pack(new),
                        created=time.time(),
                    )
                )

        self._transact(write)

    def results(self, key: DataKey, schedule: Schedule) -> dict[int, SampleResult]:
        """Results of a schedule by row, in the order of the rows; may be empty."""
        packs = self._transact(lambda session: session.execute(_packs(key.address(schedule))).all())
        return _by_row(pack.results for pack in packs)

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


def _packs(address: str) -> Select[int, str]:
    """Everything under an address; `start` and `stop` number its rows in the order in which they were measured."""
    found = select(_Evaluation.stop, _Evaluation.results).where(_Evaluation.address == address)
    return found.order_by(_Evaluation.start, _Evaluation.id)


def _by_row(packs: Iterable[str]) -> dict[int, SampleResult]:
    """The first result of each row."""
    known: dict[int, SampleResult] = {}
    for packed in packs:
        for result in _unpack(packed):
            known.setdefault(result.index, result)
    return dict(sorted(known.items()))


def _pack(results: Sequence[SampleResult]) -> str:
    """One column per field: a third of the size of one object per sample."""
    return json.dumps({name: [getattr(r, name) for r in results] for name in _FIELDS}, separators=(",", ":"))


def _unpack(packed: str) -> list[SampleResult]:
    columns = json.loads(packed)
    return [SampleResult(*row) for row in zip(*(columns[name] for name in _FIELDS), strict=True)]
