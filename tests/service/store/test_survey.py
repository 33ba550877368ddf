"""Figures of all jobs."""

from __future__ import annotations

import time

from sqlalchemy import Engine, update

from autoprune.service.store.jobs import Jobs
from autoprune.service.store.survey import survey
from autoprune.service.store.tables import JOBS


def test_figures_of_an_empty_database(engine: Engine) -> None:
    found = survey(engine)
    assert set(found.jobs.values()) == {0}
    assert ("verification", "failed") in found.jobs
    assert (found.oldest_queued_s, found.busy_runners, found.overdue) == (0, 0, 0)


def test_jobs_that_wait_run_and_lost_their_runner(engine: Engine) -> None:
    jobs = Jobs(engine)
    for name in "abcd":
        jobs.submit("study", name, {})
    jobs.submit("verification", None, {})
    with engine.begin() as connection:
        connection.execute(update(JOBS).where(JOBS.c.name == "d").values(created=time.time() - 100))
    for runner in ("r1", "r1", "r2"):
        jobs.claim(runner)
    with engine.begin() as connection:
        connection.execute(update(JOBS).where(JOBS.c.name == "c").values(lease_until=time.time() - 1))
    found = survey(engine)
    assert (found.jobs["study", "queued"], found.jobs["study", "running"], found.jobs["verification", "queued"]) == (
        1,
        3,
        1,
    )
    assert 99 < found.oldest_queued_s < 200
    assert (found.busy_runners, found.overdue) == (1, 1)
