"""The api, on both databases: studies come in once, are seen, ended and removed; every error has one shape."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import optuna
import pytest
from fastapi.testclient import TestClient
from optuna.storages import RDBStorage
from sqlalchemy import Engine
from support.codebooks import with_codebook
from support.fronts import save_front
from support.service import listening, problem, with_tokens

from autoprune.schedule import Schedule
from autoprune.search.workers.protocol import Event
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord, Jobs, State
from autoprune.service.store.tokens import Tokens
from autoprune.service.work.submission import checked

JSON = {"content-type": "application/json"}
SAFE = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


def taken(engine: Engine) -> JobRecord:
    job = Jobs(engine).claim("r1")
    assert job is not None
    return job


def test_a_study_is_taken_in_once(client: TestClient, study: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.post("/v1/studies", json=study, headers=key)
    again = client.post("/v1/studies", json=study, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == {"id": first.json()["id"], "state": "queued"}
    other = client.post("/v1/studies", json={**study, "search": {"trials": 9}}, headers=key)
    assert problem(other, 409)["field"] == "Idempotency-Key"
    assert "exists" in problem(client.post("/v1/studies", json=study), 409)["message"]
    seen = client.get(f"/v1/studies/{first.json()['id']}").json()
    assert (seen["name"], seen["state"], seen["progress"]) == ("tiny", "queued", None)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"output": "/tmp/x"}, "output", "set by the service"),
        ({"storage": "sqlite:///x.db"}, "storage", "set by the service"),
        ({"model": {"path": "/etc"}}, "model.path", "outside"),
        ({"model": {"path": "../.."}}, "model.path", "outside"),
        ({"model": {"path": "link"}}, "model.path", "outside"),
        ({"model": {"path": "llava-hf/llava"}}, "model.path", "no name that it may take"),
        ({"data": {"calibration": {"path": "/etc/passwd"}}}, "data.calibration.path", "outside"),
        ({"baselines": ["/etc/passwd"]}, "baselines[0]", "outside"),
        ({"space": {"criteria": [{"name": "codebook", "path": "/etc/passwd"}]}}, "space.criteria[0].path", "outside"),
        ({"model": {"path": "model", "trust_remote_code": True}}, "model.trust_remote_code", "not allowed"),
        ({"search": {"trials": 100_000}}, "search.trials", "more than this service allows"),
        ({"workers": {"count": 1000}}, "workers.count", "more than this service allows"),
        ({"name": 5}, "name", ""),
        ({"nonsense": 1}, "nonsense", ""),
    ],
)
def test_what_a_study_may_not_ask_for(
    client: TestClient, study: dict[str, Any], settings: Settings, change: dict[str, Any], field: str, said: str
) -> None:
    (settings.roots[0] / "link").symlink_to("/etc")
    error = problem(client.post("/v1/studies", json={**study, **change}), 400)
    assert field in (error["field"] or error["message"])
    assert said in error["message"]
    assert client.get("/v1/studies").json()["studies"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'"text"', b'{"name": ', b"\xff\xfe", b"[" * 40_000])
def test_bodies_that_are_no_study(client: TestClient, body: bytes) -> None:
    problem(client.post("/v1/studies", content=body, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize("path", ["\x00", "a" * 5000, "~nobodyxx/a", "\ud800"], ids=["nul", "long", "home", "half"])
def test_paths_that_no_file_can_have(client: TestClient, study: dict[str, Any], path: str) -> None:
    for change in ({"model": {"path": path}}, {"baselines": [path]}):
        problem(client.post("/v1/studies", content=json.dumps({**study, **change}), headers=JSON), 400)


def test_a_baseline_whose_codebook_lies_elsewhere_is_refused(
    client: TestClient, study: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    book = tmp_path / "elsewhere" / "book.safetensors"
    with_codebook(book).save(settings.roots[0] / "mine.json")
    error = problem(client.post("/v1/studies", json={**study, "baselines": ["mine.json"]}), 400)
    assert (error["field"], error["value"], "outside" in error["message"]) == ("baselines", str(book), True)


@pytest.mark.parametrize("body", [{"\ud800": 1}, {"a": {"\ud800": 1}}, {"published": {"name": "\ud800", "version": 1}}])
def test_half_of_a_surrogate_pair_is_no_text(client: TestClient, body: dict[str, Any]) -> None:
    for route in ("/v1/studies", "/v1/verifications", "/v1/schedules/a/versions"):
        error = problem(client.post(route, content=json.dumps(body), headers=JSON), 400)
        assert "surrogate" in error["message"]


def test_a_bug_is_told_without_details_and_logged_with_them(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Jobs, "page", fail)
    with listening(create_app(settings, engine)) as server:
        reply = httpx.get(f"{server}/v1/studies")
    error = problem(reply, 500)
    assert error["message"] == "the service failed"
    assert "secret" not in str(error)
    assert SAFE.items() <= reply.headers.items()
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert str(logged.exc_info and logged.exc_info[1]) == "a secret"


def test_who_left_before_the_reply_is_no_bug(engine: Engine, settings: Settings) -> None:
    begun: list[int] = []

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def note(message: Any) -> None:
        if message["type"] == "http.response.start":
            begun.append(message["status"])

    place = {"path": "/v1/studies", "query_string": b"", "headers": [(b"host", b"localhost")], "client": ("::1", 9)}
    asyncio.run(create_app(settings, engine)({"type": "http", "method": "GET", **place}, gone, note))
    assert begun == [200]


def test_refusals_too_tell_browsers_how_to_treat_them(client: TestClient, study: dict[str, Any]) -> None:
    large = json.dumps({**study, "name": "x" * 60_000}).encode()
    for reply, status in (
        (client.get("/v1/studies", headers={"Host": "evil.example"}), 421),
        (client.post("/v1/studies", json=study, headers={"Origin": "https://evil.example"}), 403),
        (client.post("/v1/studies", content=large), 413),
        (client.get("/v1/studies/nobody"), 404),
        (client.get("/v1/studies"), 200),
    ):
        assert reply.status_code == status
        assert SAFE.items() <= reply.headers.items()


def test_bodies_over_the_limit(client: TestClient, study: dict[str, Any]) -> None:
    large = json.dumps({**study, "name": "x" * 60_000}).encode()
    problem(client.post("/v1/studies", content=large), 413)
    pieces = (large[start : start + 1000] for start in range(0, len(large), 1000))
    problem(client.post("/v1/studies", content=pieces), 413)


def test_pages_of_studies(client: TestClient, study: dict[str, Any]) -> None:
    ids = [client.post("/v1/studies", json={**study, "name": f"s{i}"}).json()["id"] for i in range(3)][::-1]
    first = client.get("/v1/studies", params={"limit": 2}).json()
    assert ([one["id"] for one in first["studies"]], first["next"]) == (ids[:2], ids[1])
    rest = client.get("/v1/studies", params={"after": first["next"]}).json()
    assert ([one["id"] for one in rest["studies"]], rest["next"]) == (ids[2:], None)
    assert client.get("/v1/studies", params={"state": "done"}).json()["studies"] == []
    problem(client.get("/v1/studies", params={"state": "lost"}), 400)
    problem(client.get("/v1/studies", params={"limit": 0}), 400)
    problem(client.get("/v1/studies", params={"after": "nobody"}), 404)


def test_cancel_resume_and_delete(client: TestClient, study: dict[str, Any], settings: Settings) -> None:
    path = f"/v1/studies/{client.post('/v1/studies', json=study).json()['id']}"
    problem(client.post(f"{path}/resume"), 409)
    problem(client.delete(path), 409)
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    problem(client.post(f"{path}/cancel"), 409)
    assert client.post(f"{path}/resume").json()["state"] == "queued"
    client.post(f"{path}/cancel")
    output = settings.output_of(path.split("/")[-1])
    save_front(output)
    assert client.delete(path).status_code == 204
    assert not output.exists()
    for reply in (client.get(path), client.delete(path), client.post(f"{path}/cancel"), client.get(f"{path}/front")):
        assert problem(reply, 404)["message"] == "no such study"


def test_a_name_is_free_again_once_its_study_is_deleted(
    client: TestClient, study: dict[str, Any], settings: Settings
) -> None:
    id = client.post("/v1/studies", json=study).json()["id"]
    client.post(f"/v1/studies/{id}/cancel")
    spec = checked(study, settings, id)
    spec.output_path.mkdir(parents=True)
    optuna.create_study(study_name=spec.name, storage=RDBStorage(spec.storage_url))
    assert client.delete(f"/v1/studies/{id}").status_code == 204
    again = checked(study, settings, client.post("/v1/studies", json=study).json()["id"])
    again.output_path.mkdir(parents=True)
    assert optuna.get_all_study_names(RDBStorage(again.storage_url)) == []


def test_results(client: TestClient, study: dict[str, Any], settings: Settings) -> None:
    path = f"/v1/studies/{client.post('/v1/studies', json=study).json()['id']}"
    assert "no front yet" in problem(client.get(f"{path}/front"), 404)["message"]
    folder = save_front(settings.output_of(path.split("/")[-1]))
    assert client.get(f"{path}/front").json() == json.loads((folder / "front.json").read_text())
    chosen = client.get(f"{path}/schedule", params={"max_drop": 0.5}).json()
    assert Schedule.model_validate(chosen["schedule"]).evidence
    trial = client.get(f"{path}/schedule", params={"trial": chosen["trial"]}).json()
    assert trial["schedule"]["stages"] == chosen["schedule"]["stages"]
    figures = (chosen["quality"], chosen["flops_ratio"], chosen["flops_ratio_end_to_end"])
    point = next(one for one in client.get(f"{path}/front").json()["points"] if one["trial"] == chosen["trial"])
    measured = point["validation"]
    assert figures == ("accuracy", measured["flops_ratio"], measured["flops_ratio_end_to_end"])
    two = problem(client.get(f"{path}/schedule", params={"max_drop": 0.5, "trial": 1}), 400)
    assert two["field"] == "trial"
    vain = problem(client.get(f"{path}/schedule", params={"max_flops": 0.5, "confidence": 0.9}), 400)
    few = problem(client.get(f"{path}/schedule", params={"max_flops": 0.0001}), 422)
    for told in (two, vain, few):
        assert "--" not in told["message"] + told["remedy"]
    problem(client.get(f"{path}/schedule", params={"max_drop": "nan"}), 400)
    assert problem(client.get(f"{path}/schedule", params={"max_dorp": 0.5}), 400)["field"] == "max_dorp"
    assert "by `trial` " in few["remedy"]


@pytest.mark.parametrize(
    ("state", "message", "remedy"),
    [
        ("queued", "has no front yet", "waits for a runner"),
        ("running", "has no front yet", "still runs"),
        ("done", "has no front", "restore them from a backup"),
        ("failed", "has no front", "resume it once its reason is mended"),
        ("cancelled", "has no front", "resume it"),
    ],
)
def test_what_gives_a_study_a_front_depends_on_its_state(
    client: TestClient, study: dict[str, Any], engine: Engine, state: State, message: str, remedy: str
) -> None:
    id = client.post("/v1/studies", json=study).json()["id"]
    if state != "queued":
        job = taken(engine)
        if state != "running":
            Jobs(engine).finish(job, state)
    told = problem(client.get(f"/v1/studies/{id}/front"), 404)
    assert told["message"] == message
    assert remedy in told["remedy"]
    for path in (f"/compare?a={id}&b={id}", f"/studies/{id}/take?by=trial&value=1"):
        page = client.get(path)
        assert (page.status_code, message in page.text, remedy in page.text) == (404, True, True)


def test_events_go_on_behind_the_last_one_seen(
    client: TestClient, study: dict[str, Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = client.post("/v1/studies", json=study).json()["id"]
    job, events = taken(engine), Events(engine)
    events.add(job, [Event("phase", "search"), Event("progress", "", 1, 9), Event("progress", "", 2, 9)])
    assert client.get(f"/v1/studies/{id}").json()["progress"]["done"] == 2
    Jobs(engine).finish(job, "failed", "no memory")
    monkeypatch.setattr(Events.after, "__defaults__", (0, 2))  # events come in pages
    whole = client.get(f"/v1/studies/{id}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    found = [dict(line.split(": ", 1) for line in part.splitlines()) for part in whole.text.strip().split("\n\n")]
    assert [one["event"] for one in found] == ["phase", "progress", "progress", "end"]
    assert json.loads(found[-1]["data"]) == {"state": "failed", "reason": "no memory"}
    rest = client.get(f"/v1/studies/{id}/events", headers={"Last-Event-ID": found[1]["id"]}).text
    assert rest.count("event: progress") == 1
    assert "event: phase" not in rest
    problem(client.get("/v1/studies/nobody/events"), 404)
    problem(client.get(f"/v1/studies/{id}/events", headers={"Last-Event-ID": "9" * 30}), 400)


def test_tokens_and_their_roles(client: TestClient, study: dict[str, Any], engine: Engine) -> None:
    tokens, roles = Tokens(engine), with_tokens(engine)
    expired = {"Authorization": f"Bearer {tokens.create('old', 'admin', days=-1)}"}
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic x"}, expired):
        reply = client.get("/v1/studies", headers=headers)
        assert "valid token" in problem(reply, 401)["message"]
        assert reply.headers["www-authenticate"] == "Bearer"
    for ask in (client.get, client.delete):
        problem(ask("/v1/studies/nobody"), 401)  # not whether there is one
    assert client.get("/v1/studies", headers=roles["read"]).status_code == 200
    assert problem(client.post("/v1/studies", json=study, headers=roles["read"]), 403)["value"] == "read"
    assert client.post("/v1/studies", json=study, headers=roles["write"]).status_code == 201
    assert client.get("/v1/studies", headers=roles["admin"]).status_code == 200
    assert tokens.revoke("admin")
    problem(client.get("/v1/studies", headers=roles["admin"]), 401)


def test_no_token_stands_in_the_database(engine: Engine, tmp_path: Path, url: str) -> None:
    secret = Tokens(engine).create("a", "read")
    if url.startswith("sqlite"):
        engine.dispose()
        assert not any(secret.encode() in file.read_bytes() for file in tmp_path.glob("service.db*"))


def test_other_names_of_this_machine_are_refused(client: TestClient) -> None:
    assert problem(client.get("/v1/studies", headers={"Host": "evil.example"}), 421)["value"] == "evil.example"
    for host in ("localhost:8321", "127.0.0.1", "127.0.0.2:8321", "[::1]:8321", "[::1]"):
        assert client.get("/v1/studies", headers={"Host": host}).status_code == 200


def test_operation(client: TestClient, study: dict[str, Any]) -> None:
    client.post("/v1/studies", json=study)
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
    reply = client.get("/v1/studies")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert problem(client.get("/nowhere"), 404)["value"] == "/nowhere"
    assert problem(client.put("/v1/studies"), 405)
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert "/v1/studies/{id}/schedule" in described["paths"]
    for page in ("/docs", "/redoc"):  # would load scripts from elsewhere
        problem(client.get(page), 404)
