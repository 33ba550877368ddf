"""The jobs of a database in figures, for those who watch over a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import Engine, and_, distinct, func, select

from autoprune.service.store.jobs import STATES, Kind
from autoprune.service.store.tables import JOBS, now


@dataclass(frozen=True)
class Survey:
    """Figures of all jobs, taken at one time.

    Attributes:
        jobs: How many, by kind and state.
        oldest_queued_s: Seconds that the oldest of those that wait has waited since it was submitted; 0 = none waits.
        busy_runners: Runners that hold a job.
        overdue: Jobs whose runner was lost and that nobody has taken yet.
    """

    jobs: Mapping[tuple[str, str], int]
    oldest_queued_s: float
    busy_runners: int
    overdue: int

    def of(self, kind: Kind) -> dict[str, int]:
        """Jobs of a kind, by state."""
        return {state: self.jobs[kind, state] for state in STATES}


def survey(engine: Engine) -> Survey:
    """The figures as they are now."""
    clock = now(engine.dialect)
    held = and_(JOBS.c.state == "running", JOBS.c.lease_until >= clock)
    lost = and_(JOBS.c.state == "running", JOBS.c.lease_until < clock)
    with engine.begin() as connection:
        counted = connection.execute(
            select(JOBS.c.kind, JOBS.c.state, func.count()).group_by(JOBS.c.kind, JOBS.c.state)
        ).all()
        oldest = connection.execute(select(clock - func.min(JOBS.c.created)).where(JOBS.c.state == "queued")).scalar()
        runners = connection.execute(select(func.count(distinct(JOBS.c.runner))).where(held)).scalar_one()
        overdue = connection.execute(select(func.count()).where(lost)).scalar_one()
    jobs: dict[tuple[str, str], int] = {(kind, state): 0 for kind in get_args(Kind) for state in STATES}
    jobs |= {(kind, state): count for kind, state, count in counted}
    return Survey(jobs, max(oldest or 0.0, 0.0), runners, overdue)
