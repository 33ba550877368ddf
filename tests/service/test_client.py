"""The client against the api on a real socket, and against one that fails for a moment."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import Engine
from support.fronts import save_front
from support.service import listening
from support.studies import write_study

from autoprune.errors import StudyError
from autoprune.schedule import Schedule
from autoprune.search.workers.protocol import Event
from autoprune.service import Client, RemoteError
from autoprune.service.api.app import create_app
from autoprune.service.client import RemoteInputError
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord, Jobs
from autoprune.service.store.tokens import Tokens


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of SQLite alone: what differs between databases is below the api."""
    return f"sqlite:///{tmp_path}/service.db"


@pytest.fixture
def study(settings: Settings) -> Path:
    return write_study(settings.roots[0], output=None)


@pytest.fixture
def client(settings: Settings, engine: Engine) -> Iterator[Client]:
    with listening(create_app(settings, engine)) as server, Client(server) as client:
        yield client


def taken(engine: Engine) -> JobRecord:
    job = Jobs(engine).claim("a runner")
    assert job is not None
    return job


def test_a_study_from_its_submission_to_its_schedule(
    client: Client, study: Path, settings: Settings, engine: Engine
) -> None:
    id = client.submit(study)
    assert [one["id"] for one in client.studies()] == [id]
    assert list(client.studies(state="done")) == []
    job = taken(engine)
    Events(engine).add(job, [Event("phase", "searching"), Event("progress", "", 1, 9)])
    assert client.study(id)["progress"]["done"] == 1
    folder = save_front(settings.output_of(id))
    (folder / "report.html").write_text("<html>")
    Jobs(engine).finish(job, "done")
    assert client.front(id) == json.loads((folder / "front.json").read_text())
    assert client.report(id) == b"<html>"
    found = client.schedule(id, max_drop=0.5)
    assert isinstance(found, Schedule)
    assert found.evidence
    version = client.publish("best", id, max_drop=0.5)
    assert client.publish("best", id, max_drop=0.5) == version == 1
    assert client.published("best", 1) == found
    with pytest.raises(RemoteError, match="no point") as refused:
        client.schedule(id, max_flops=0.0001)
    assert refused.value.status == 422
    assert refused.value.remedy
    client.delete(id)
    with pytest.raises(RemoteError, match="no such") as gone:
        client.study(id)
    assert (gone.value.status, gone.value.field, gone.value.value) == (404, "id", id)


def test_the_same_key_is_the_same_study(client: Client, study: Path) -> None:
    assert client.submit(study, key="k") == client.submit(study, key="k")
    with pytest.raises(RemoteError, match="a study of this name exists") as conflict:
        client.submit(study)
    assert conflict.value.status == 409


def test_a_study_that_was_cancelled_goes_on(client: Client, study: Path) -> None:
    id = client.submit(study)
    assert client.cancel(id)["state"] == "cancelled"
    assert client.resume(id)["state"] == "queued"


def test_a_verification(client: Client, study: Path) -> None:
    stages = [{"layer": 3, "keep": {"ratio": 0.0}}]
    schedule = Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": stages})
    id = client.verify(schedule, {"path": "model"}, {"path": "validation.jsonl"}, batch_size=4)
    assert client.verification(id)["state"] == "queued"


def test_all_pages_are_listed(client: Client, engine: Engine) -> None:
    ids = [Jobs(engine).submit("study", f"s{number}", {})[0].id for number in range(120)]
    assert [one["id"] for one in client.studies()] == ids[::-1]


def test_a_study_is_watched_until_it_has_ended(client: Client, study: Path, engine: Engine) -> None:
    id = client.submit(study)
    job, events = taken(engine), Events(engine)
    events.add(job, [Event("phase", "searching")])

    def go_on() -> None:
        time.sleep(0.3)
        events.add(job, [Event("progress", "", 1, 9)])
        Jobs(engine).finish(job, "failed", "no memory")

    thread = threading.Thread(target=go_on)
    thread.start()
    seen = list(client.watch(id))
    thread.join()
    assert [event.kind for event in seen] == ["phase", "progress", "end"]
    assert seen[-1].content == {"state": "failed", "reason": "no memory"}
    assert [event.kind for event in client.watch(id, after=seen[0].id)] == ["progress", "end"]
    with pytest.raises(RemoteError, match="no such study"):
        next(client.watch("nobody"))


def test_the_token_comes_from_the_environment(
    settings: Settings, engine: Engine, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = Tokens(engine).create("me", "write")
    with listening(create_app(settings, engine)) as server:
        with Client(server) as nobody, pytest.raises(RemoteError, match="valid token") as refused:
            nobody.submit(study)
        assert refused.value.status == 401
        monkeypatch.setenv("AUTOPRUNE_TOKEN", f"{secret}\n")  # as a file holds it
        monkeypatch.setenv("AUTOPRUNE_SERVER", server)
        with Client() as known:
            assert known.submit(study)


def test_what_can_be_no_token_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("half…", "two words", "a\nb"):
        monkeypatch.setenv("AUTOPRUNE_TOKEN", token)
        with pytest.raises(RemoteInputError, match="can be no token") as refused:
            Client()
        assert token not in str(refused.value)


def test_a_file_that_is_no_study_is_told_here(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(StudyError, match="is not YAML"):
        client.submit(tmp_path / "bad.yaml")


class Clock:
    """Time as the client sees it: it passes while the client waits, and at no other time."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("autoprune.service.client.time", clock)
    return clock


class Unsteady:
    """An app that fails at first, as a proxy before a service that starts again."""

    def __init__(self, *failures: int) -> None:
        self.failures, self.asked, self.keys = list(failures), 0, set[str]()
        self.app = FastAPI()

        @self.app.api_route("/v1/studies", methods=["GET", "POST"])
        def studies(request: Request) -> Any:
            self.asked += 1
            self.keys.add(request.headers.get("Idempotency-Key", ""))
            if self.failures:
                return PlainTextResponse("away", self.failures.pop(0), {"Retry-After": "0"})
            return {"id": "1", "studies": [], "next": None}

        @self.app.post("/v1/studies/{id}/cancel")
        def cancel(id: str) -> Response:
            self.asked += 1
            return PlainTextResponse("away", 503)

        @self.app.get("/v1/studies/{id}/events")
        def events(id: str, request: Request) -> Response:
            self.asked += 1
            if self.failures:
                return PlainTextResponse("away", self.failures.pop(0), {"Retry-After": "7"})
            seen = int(request.headers["Last-Event-ID"])

            async def some() -> Any:
                yield f'event: progress\nid: {seen + 1}\ndata: {{"done": {seen + 1}}}\n\n'
                if seen < 2:
                    raise ConnectionError("cut off in the middle")
                yield f'event: end\nid: {seen + 1}\ndata: {{"state": "done", "reason": ""}}\n\n'

            return StreamingResponse(some(), media_type="text/event-stream")


def test_what_fails_for_a_moment_is_asked_again() -> None:
    unsteady = Unsteady(503, 429, 502)
    with listening(unsteady.app) as server, Client(server) as client:
        assert client.submit({"name": "x"}) == "1"
        assert (unsteady.asked, len(unsteady.keys)) == (4, 1)
        with pytest.raises(RemoteError, match="HTTP 503"):
            client.cancel("1")
        assert unsteady.asked == 5


def test_watching_goes_on_once_the_service_is_back(clock: Clock) -> None:
    unsteady = Unsteady(*[503, 429, 502] * 4)
    with listening(unsteady.app) as server, Client(server) as client:
        assert [event.id for event in client.watch("1")] == [1, 2, 3, 3]
        assert min(clock.waits[:12]) == 7
        unsteady.failures = [503] * 1000
        with pytest.raises(RemoteError, match="HTTP 503"):
            next(client.watch("1"))
    assert 300 <= clock.now - sum(clock.waits[:14]) < 400


def test_watching_waits_for_a_service_that_is_upgraded(clock: Clock) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(RemoteError, match="cannot be reached"):
        next(client.watch("1"))
    assert 300 <= clock.now < 360


def test_watching_goes_on_where_the_connection_broke(clock: Clock) -> None:
    unsteady = Unsteady()
    with listening(unsteady.app) as server, Client(server) as client:
        seen = [(event.kind, event.id) for event in client.watch("1")]
    assert seen == [("progress", 1), ("progress", 2), ("progress", 3), ("end", 3)]


def test_a_service_that_is_not_there(clock: Clock) -> None:
    with Client("http://127.0.0.1:9") as client:
        for ask in (lambda: client.study("1"), lambda: next(client.watch("1")), lambda: client.cancel("1")):
            with pytest.raises(RemoteError, match="cannot be reached") as away:
                ask()
            assert (away.value.field, away.value.value) == ("server", "http://127.0.0.1:9")
    for url in ("http://[", "ftp://x", "localhost:8321", "http://"):
        with pytest.raises(RemoteError, match="is no URL"):
            Client(url)
