"""Events of a study as they come: who may watch for how long, and how many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError
from support.service import listening, problem, waited, with_tokens

from autoprune.service.api import limits, studies
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import Jobs
from autoprune.service.store.tables import TOKENS
from autoprune.service.store.tokens import Tokens


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of SQLite alone: what differs between databases is below the api."""
    return f"sqlite:///{tmp_path}/service.db"


@pytest.fixture
def id(engine: Engine) -> str:
    """A study that waits, and goes on waiting."""
    return Jobs(engine).submit("study", "tiny", {})[0].id


@pytest.fixture
def http(settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(studies, "_RIGHT_S", 0.2)
    monkeypatch.setattr(studies, "_POLL_S", 0.05)
    few = settings.model_copy(update={"rate": "6/day"})
    with listening(create_app(few, engine)) as server, httpx.Client(base_url=server, timeout=60) as http:
        yield http


@contextmanager
def watched(http: httpx.Client, id: str, headers: dict[str, str]) -> Iterator[Callable[[], str]]:
    """A stream that has begun; what it sent, once it is over."""
    with http.stream("GET", f"/v1/studies/{id}/events", headers=headers) as reply:
        assert reply.status_code == 200, reply.read()
        yield lambda: reply.read().decode()


def revoke(engine: Engine, http: httpx.Client) -> None:
    Tokens(engine).revoke("read")


def expire(engine: Engine, http: httpx.Client) -> None:
    with engine.begin() as connection:
        connection.execute(update(TOKENS).values(expires=0.0))


def log_out(engine: Engine, http: httpx.Client) -> None:
    assert http.post("/logout").status_code == 303


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("end", "by_cookie"), [(revoke, False), (expire, True), (log_out, True)])
def test_who_may_not_watch_any_more_is_sent_nothing_more(
    http: httpx.Client, id: str, engine: Engine, end: Callable[..., None], by_cookie: bool
) -> None:
    headers = with_tokens(engine)["read"]
    if by_cookie:
        token = headers.pop("Authorization").split()[1]
        assert http.post("/login", data={"token": token}).status_code == 303
    with watched(http, id, headers) as sent:
        end(engine, http)
        assert "event: end" not in sent()
    problem(http.get(f"/v1/studies/{id}/events", headers=headers), 401)


def test_whoever_stays_asked_once(http: httpx.Client, id: str, engine: Engine) -> None:
    headers = with_tokens(engine)["read"]
    looks = threading.Semaphore(0)
    holder = Tokens.holder
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Tokens, "holder", lambda *given: (looks.release(), holder(*given))[1])
        with watched(http, id, headers):
            assert all(looks.acquire(timeout=30) for _ in range(8))  # more often than a caller may ask
    assert [http.get("/v1/studies", headers=headers).status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.timeout(60)
def test_a_study_that_is_deleted_while_it_is_watched_ends_the_stream(
    http: httpx.Client, id: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(http, id, {}) as sent:
        Jobs(engine).cancel(id)
        Jobs(engine).delete(id)
        sent()
    problem(http.get(f"/v1/studies/{id}/events"), 404)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.timeout(60)
def test_a_database_that_goes_away_ends_the_stream(
    http: httpx.Client, id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    with watched(http, id, {}) as sent:
        monkeypatch.setattr(Events, "after", away)
        sent()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.timeout(60)
def test_so_many_streams_and_no_more(
    settings: Settings, engine: Engine, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAMS", 3)
    monkeypatch.setattr(limits, "STREAMS_OF_CALLER", 2)
    roles = with_tokens(engine)
    path = f"/v1/studies/{id}/events"
    with listening(create_app(settings, engine)) as server, httpx.Client(base_url=server, timeout=60) as http:
        with ExitStack() as open_streams:
            for _ in range(2):
                open_streams.enter_context(watched(http, id, roles["read"]))
            refused = http.get(path, headers=roles["read"])
            assert "2 of one caller" in problem(refused, 429)["remedy"]
            assert int(refused.headers["retry-after"]) > 0
            open_streams.enter_context(watched(http, id, roles["write"]))
            assert "too many studies are watched" in problem(http.get(path, headers=roles["admin"]), 429)["message"]
        # whoever leaves makes room

        def again() -> bool:
            with http.stream("GET", path, headers=roles["read"]) as reply:
                return reply.status_code == 200

        waited(again, 30)
