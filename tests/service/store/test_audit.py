"""The audit log: a change and its entry are one transaction."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine

from autoprune.service.store.audit import Audit
from autoprune.service.store.jobs import ConflictError, Jobs
from autoprune.service.store.tokens import Tokens


def log(engine: Engine) -> list[tuple[str, str, str]]:
    return [(entry.who, entry.what, entry.on) for entry in reversed(Audit(engine).page())]


def test_changes_of_studies(engine: Engine) -> None:
    jobs = Jobs(engine)
    job, _ = jobs.submit("study", "a", {}, "key", by="ann")
    jobs.submit("study", "a", {}, "key", by="bob")  # changes nothing
    jobs.cancel(job.id, by="bob")
    jobs.resume(job.id, by="ann")
    jobs.cancel(job.id)
    jobs.delete(job.id, by="ann")
    verbs = [("ann", "submit"), ("bob", "cancel"), ("ann", "resume"), ("operator", "cancel"), ("ann", "delete")]
    assert log(engine) == [(who, f"study.{verb}", job.id) for who, verb in verbs]
    entry = Audit(engine).page(limit=1)[0]
    assert entry.detail == {"name": "a"}
    assert abs(entry.at - time.time()) < 60


def test_what_is_refused_is_no_change(engine: Engine) -> None:
    jobs = Jobs(engine)
    job, _ = jobs.submit("study", "a", {}, by="ann")
    for refused in (jobs.delete, jobs.resume, lambda _, by: jobs.submit("study", "a", {}, by=by)):
        with pytest.raises(ConflictError):
            refused(job.id, by="bob")
    assert len(log(engine)) == 1


def test_tokens(engine: Engine) -> None:
    tokens = Tokens(engine)
    secret = tokens.create("ann", "write", days=2)
    assert (tokens.revoke("ann"), tokens.revoke("ann")) == (True, False)
    assert log(engine) == [("operator", "token.create", "ann"), ("operator", "token.revoke", "ann")]
    assert secret not in str(Audit(engine).page())
    for name in ("local", "operator"):
        with pytest.raises(ConflictError, match="another meaning"):
            tokens.create(name, "read")


def test_pages_and_filters(engine: Engine) -> None:
    jobs = Jobs(engine)
    ids = [jobs.submit("study", name, {}, by="ann")[0].id for name in "abc"]
    jobs.cancel(ids[1], by="bob")
    audit = Audit(engine)
    first = audit.page(limit=2)
    assert [entry.on for entry in first] == [ids[1], ids[2]]
    assert [entry.on for entry in audit.page(after=first[-1].number)] == [ids[1], ids[0]]
    assert [entry.what for entry in audit.page(on=ids[1])] == ["study.cancel", "study.submit"]
    assert [entry.on for entry in audit.page(who="bob")] == [ids[1]]
    assert len(audit.page(what="study.submit", who="ann")) == 3
    assert audit.page(since=time.time() + 600) == []
