"""The life sign of a driver: given at once, and the end of a driver that cannot give it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from autoprune.service.store.jobs import JobRecord, Jobs
from autoprune.service.work import heartbeat
from autoprune.service.work.heartbeat import FENCED, Heartbeat


def claimed(jobs: Jobs) -> JobRecord:
    jobs.submit("study", "a", {})
    job = jobs.claim("r1")
    assert job is not None
    return job


def test_it_renews_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(engine, lease_s=300)
    job, renewed, renew = claimed(jobs), threading.Event(), jobs.renew

    def noted(job: JobRecord) -> JobRecord:
        renewed.set()
        return renew(job)

    monkeypatch.setattr(jobs, "renew", noted)
    with Heartbeat(jobs, job):
        assert renewed.wait(30)


def test_a_database_that_hangs_ends_the_driver(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(engine, lease_s=1)
    job, answers, ended = claimed(jobs), threading.Event(), threading.Event()
    codes: list[int] = []

    def hangs(job: JobRecord) -> JobRecord:
        answers.wait(60)
        return job

    def ends(code: int) -> None:
        codes.append(code)
        ended.set()
        answers.set()

    monkeypatch.setattr(jobs, "renew", hangs)
    monkeypatch.setattr(heartbeat.os, "_exit", ends)
    with Heartbeat(jobs, job):
        assert ended.wait(30)
    assert set(codes) == {FENCED}


def test_a_database_that_fails_ends_the_driver(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(engine, lease_s=1)
    job, ended = claimed(jobs), threading.Event()

    def fails(*_: Any) -> JobRecord:
        raise heartbeat.SQLAlchemyError("away")

    monkeypatch.setattr(jobs, "renew", fails)
    monkeypatch.setattr(heartbeat.os, "_exit", lambda code: ended.set())
    with Heartbeat(jobs, job):
        assert ended.wait(30)
