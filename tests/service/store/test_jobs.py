"""Leased jobs: taken by one, taken over when their runner is lost, and ended once."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.event import listens_for

from autoprune.search.workers.protocol import Event
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import MOST_ATTEMPTS, ConflictError, JobRecord, Jobs, LeaseLostError, UnknownJobError
from autoprune.service.store.tables import JOBS


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    return Jobs(engine)


def submitted(jobs: Jobs, name: str = "a", key: str | None = None) -> JobRecord:
    return jobs.submit("study", name, {"name": name}, key)[0]


def claimed(jobs: Jobs, runner: str = "r1") -> JobRecord:
    job = jobs.claim(runner)
    assert job is not None
    return job


def lose(jobs: Jobs, job: JobRecord) -> None:
    """The lease of a job runs out."""
    with jobs.engine.begin() as connection:
        connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(lease_until=time.time() - 1))


def test_a_repeated_submission_is_the_same_job(jobs: Jobs) -> None:
    first, new = jobs.submit("study", "a", {"x": 1, "y": 2}, "key")
    again, also_new = jobs.submit("study", "a", {"y": 2, "x": 1}, "key")
    assert (new, also_new, again.id) == (True, False, first.id)
    with pytest.raises(ConflictError, match="another request"):
        jobs.submit("study", "a", {"x": 2}, "key")


def test_a_name_belongs_to_one_job(jobs: Jobs) -> None:
    job = submitted(jobs)
    with pytest.raises(ConflictError, match="a study of this name exists"):
        submitted(jobs)
    jobs.cancel(job.id)
    with pytest.raises(ConflictError, match=f"resume or delete {job.id}"):
        submitted(jobs)
    jobs.delete(job.id)
    assert submitted(jobs).id != job.id


def test_jobs_are_taken_in_their_order_and_once(jobs: Jobs) -> None:
    first, second = submitted(jobs, "a"), submitted(jobs, "b")
    assert [claimed(jobs).id, claimed(jobs).id, jobs.claim("r1")] == [first.id, second.id, None]
    taken = jobs.get(first.id)
    assert (taken.state, taken.epoch, taken.attempts, taken.runner) == ("running", 1, 1, "r1")
    assert taken.started is not None
    assert abs(taken.started - time.time()) < 5


def test_many_runners_never_take_one_job_twice(jobs: Jobs) -> None:
    names = [f"s{i}" for i in range(40)]
    for name in names:
        submitted(jobs, name)
    taken: list[str] = []

    def work(runner: str) -> None:
        while (job := jobs.claim(runner)) is not None:
            taken.append(job.name)

    threads = [threading.Thread(target=work, args=(f"r{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(names)


def test_a_lost_job_is_taken_over_and_its_first_runner_fenced(jobs: Jobs) -> None:
    submitted(jobs)
    lost = claimed(jobs)
    assert jobs.claim("r2") is None
    lose(jobs, lost)
    taken = claimed(jobs, "r2")
    assert (taken.id, taken.epoch, taken.runner) == (lost.id, 2, "r2")
    for change in (jobs.renew, jobs.give_back, lambda job: jobs.finish(job, "done")):
        with pytest.raises(LeaseLostError):
            change(lost)
    assert jobs.finish(taken, "done").state == "done"
    with pytest.raises(LeaseLostError):
        jobs.finish(taken, "failed")


def test_a_renewed_lease_holds(engine: Engine) -> None:
    jobs = Jobs(engine, lease_s=0.6)
    submitted(jobs)
    job = claimed(jobs)
    for _ in range(4):
        time.sleep(0.3)
        jobs.renew(job)
        assert jobs.claim("r2") is None
    time.sleep(0.8)
    assert claimed(jobs, "r2").epoch == 2


def test_a_job_that_loses_runners_again_and_again_fails(jobs: Jobs) -> None:
    job = submitted(jobs)
    for _ in range(MOST_ATTEMPTS):
        lose(jobs, claimed(jobs))
    assert jobs.claim("r1") is None
    failed = jobs.get(job.id)
    assert (failed.state, failed.attempts) == ("failed", MOST_ATTEMPTS)
    assert "its runner was lost" in failed.reason
    jobs.resume(job.id)
    assert claimed(jobs).attempts == 1


def test_what_is_given_back_counts_no_attempt(jobs: Jobs) -> None:
    submitted(jobs)
    for _ in range(MOST_ATTEMPTS + 1):
        jobs.give_back(claimed(jobs))
    assert claimed(jobs).attempts == 1


def test_what_cannot_run_now_says_why_and_lets_others_go_first(jobs: Jobs) -> None:
    large, small = submitted(jobs, "large"), submitted(jobs, "small")
    jobs.give_back(claimed(jobs), "waits for 2 GPUs; 1 is free", 60)
    waiting = jobs.get(large.id)
    assert (waiting.state, waiting.reason, waiting.attempts) == ("queued", "waits for 2 GPUs; 1 is free", 0)
    assert [claimed(jobs).id, jobs.claim("r1")] == [small.id, None]
    lose(jobs, large)  # its pause is over
    again = claimed(jobs)
    assert (again.id, again.reason, again.attempts) == (large.id, "", 1)
    assert jobs.give_back(again, "the head died", 0, counted=True).attempts == 1
    ended = jobs.cancel(large.id)
    assert (ended.state, ended.reason) == ("cancelled", "")


def test_cancelling(jobs: Jobs) -> None:
    waiting, running = submitted(jobs, "a"), submitted(jobs, "b")
    assert jobs.cancel(waiting.id).state == "cancelled"
    job = claimed(jobs)
    assert job.id == running.id
    assert (jobs.cancel(job.id).state, jobs.renew(job).cancelling) == ("running", True)
    jobs.finish(job, "cancelled")
    with pytest.raises(ConflictError, match="has ended"):
        jobs.cancel(job.id)
    again = jobs.resume(job.id)
    assert (again.state, again.cancelling, again.ended) == ("queued", False, None)


def test_a_lost_job_that_was_to_end_ends(jobs: Jobs) -> None:
    submitted(jobs)
    job = claimed(jobs)
    jobs.cancel(job.id)
    lose(jobs, job)
    assert jobs.claim("r2") is None
    assert jobs.get(job.id).state == "cancelled"


def test_only_what_has_ended_is_deleted_and_only_what_stopped_resumed(jobs: Jobs) -> None:
    submitted(jobs)
    job = claimed(jobs)
    for refused in (jobs.delete, jobs.resume):
        with pytest.raises(ConflictError, match="is running"):
            refused(job.id)
    jobs.finish(job, "done")
    with pytest.raises(ConflictError, match="is done"):
        jobs.resume(job.id)
    jobs.delete(job.id)
    with pytest.raises(UnknownJobError):
        jobs.get(job.id)


def test_pages(jobs: Jobs) -> None:
    ids = [submitted(jobs, f"s{i}").id for i in range(5)][::-1]
    first = jobs.page("study", limit=2)
    assert [job.id for job in first] == ids[:2]
    assert [job.id for job in jobs.page("study", limit=9, after=first[-1].id)] == ids[2:]
    claimed(jobs)
    assert [job.id for job in jobs.page("study", state="running")] == ids[-1:]
    jobs.submit("verification", None, {})
    assert len(jobs.page("study")) == 5


def test_a_driver_that_lost_a_deleted_job_touches_no_other_one(jobs: Jobs) -> None:
    submitted(jobs, "old")
    old = claimed(jobs)
    lose(jobs, old)
    jobs.cancel(old.id)
    jobs.claim("r2")  # ends it
    jobs.delete(old.id)
    submitted(jobs, "new")  # SQLite gives it the number of the old one
    new = claimed(jobs)
    with pytest.raises(LeaseLostError):
        jobs.finish(old, "done")
    with pytest.raises(LeaseLostError):
        Events(jobs.engine).add(old, [Event("phase", "searching")])
    assert jobs.get(new.id).state == "running"


def test_a_job_that_is_taken_over_just_before_its_event_is_written_has_none(jobs: Jobs) -> None:
    submitted(jobs)
    mine = claimed(jobs)

    lost = []

    @listens_for(jobs.engine, "before_cursor_execute")
    def take_over(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO autoprune_events") and not lost:
            lost.append(mine)
            lose(jobs, mine)
            assert claimed(jobs, "r2").epoch > mine.epoch

    with pytest.raises(LeaseLostError):
        Events(jobs.engine).add(mine, [Event("phase", "searching")])
    assert Events(jobs.engine).after(mine) == []


def test_a_job_that_went_back_to_the_queue_while_it_was_to_end_ends(jobs: Jobs) -> None:
    submitted(jobs)
    job = claimed(jobs)
    assert jobs.cancel(job.id).cancelling
    jobs.give_back(job)
    ended = jobs.cancel(job.id)
    assert (ended.state, ended.cancelling) == ("cancelled", False)


def test_a_job_goes_last_of_what_belongs_to_it(jobs: Jobs) -> None:
    job = submitted(jobs)
    jobs.cancel(job.id)

    def away(job: JobRecord) -> None:
        raise OSError("the disk is away")

    with pytest.raises(OSError, match="away"):
        jobs.delete(job.id, also=away)
    assert jobs.get(job.id).state == "cancelled"  # and can be deleted again
    seen: list[JobRecord] = []
    jobs.delete(job.id, also=seen.append)
    assert [one.id for one in seen] == [job.id]
