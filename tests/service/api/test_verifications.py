"""Verifications over HTTP: taken in once, checked before they wait, told apart from studies."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.codebooks import with_codebook
from support.service import problem, with_tokens

from autoprune.schedule import Schedule
from autoprune.schedule.bundle import codebook_content, codebooks_of
from autoprune.schedule.files import write_whole
from autoprune.search.workers.protocol import Event
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import Jobs
from autoprune.service.store.registry import Registry
from autoprune.service.work import verification
from autoprune.service.work.verification import RESULT


@pytest.fixture
def request_body(study: dict[str, Any]) -> dict[str, Any]:
    stages = [{"layer": 3, "keep": {"ratio": 0.0}}]
    schedule = {"format": "autoprune.schedule", "version": 1, "stages": stages}
    return {"schedule": schedule, "model": study["model"], "data": study["data"]["validation"]}


def test_a_verification_waits_runs_and_tells_what_was_found(
    client: TestClient, request_body: dict[str, Any], settings: Settings, engine: Engine
) -> None:
    key = {"Idempotency-Key": "one"}
    first = client.post("/v1/verifications", json=request_body, headers=key)
    assert first.status_code == 201
    assert client.post("/v1/verifications", json=request_body, headers=key).json() == first.json()
    assert client.post("/v1/verifications", json=request_body).json()["id"] != first.json()["id"]
    path, jobs = f"/v1/verifications/{first.json()['id']}", Jobs(engine)
    assert (client.get(path).json()["state"], client.get(path).json()["result"]) == ("queued", None)
    job = jobs.claim("a runner")
    assert job is not None
    Events(engine).add(job, [Event("phase", "reading data"), Event("phase", "loading the model")])
    assert client.get(path).json()["step"] == "loading the model"
    settings.output_of(job.id).mkdir(parents=True)
    write_whole(settings.output_of(job.id) / RESULT, json.dumps({"holds": True}))
    jobs.finish(job, "done")
    assert client.get(path).json()["result"] == {"holds": True}


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"model": {"path": "/etc"}}, "model.path", "outside"),
        ({"data": {"path": "/etc/passwd"}}, "data.path", "outside"),
        ({"data": {"path": "gone.jsonl"}}, "data.path", "no file"),
        ({"model": {"path": "model", "trust_remote_code": True}}, "model.trust_remote_code", "not allowed"),
        ({"batch_size": 0}, "batch_size", "1"),
        ({"batches": 3}, "batches", "unknown key"),
    ],
)
def test_what_may_not_be_verified_is_refused_before_it_waits(
    client: TestClient, request_body: dict[str, Any], change: dict[str, Any], field: str, message: str
) -> None:
    found = problem(client.post("/v1/verifications", json={**request_body, **change}), 400)
    assert found["field"] == field
    assert message in found["message"]


def test_a_schedule_must_fit_and_stay_inside(client: TestClient, request_body: dict[str, Any]) -> None:
    stages = request_body["schedule"]["stages"]
    stages[0]["layer"] = 8
    assert "layer" in problem(client.post("/v1/verifications", json=request_body), 400)["message"]
    book = {"name": "codebook", "path": "/etc/passwd", "sha256": "0" * 64}
    stages[0] = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": book}
    found = problem(client.post("/v1/verifications", json=request_body), 400)
    assert found["field"] == "schedule.stages[0].criterion.path"


def test_a_published_schedule_is_verified_and_keeps_the_verdict(
    client: TestClient,
    request_body: dict[str, Any],
    settings: Settings,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = "/v1/schedules/digits/versions"
    for layer in (3, 4):
        stages = [{"layer": layer, "keep": {"ratio": 0.0}}]
        client.post(versions, json={"schedule": {**request_body["schedule"], "stages": stages}})
    client.put("/v1/schedules/digits/aliases/champion", json={"version": 1})
    rest = {"model": request_body["model"], "data": request_body["data"]}
    by_alias = {**rest, "published": {"name": "digits", "version": "champion"}}
    id = client.post("/v1/verifications", json=by_alias).json()["id"]
    client.put("/v1/schedules/digits/aliases/champion", json={"version": 2})
    seen: list[Schedule] = []

    def verified(loaded: Any, schedule: Schedule, *_: Any, **__: Any) -> Any:
        seen.append(schedule)
        return SimpleNamespace(to_dict=lambda: {"holds": True})

    for name in ("load_model", "check_lengths", "load_samples", "check_rows"):
        monkeypatch.setattr(verification, name, lambda *_, **__: None)
    monkeypatch.setattr(verification, "verify_schedule", verified)
    job = Jobs(engine).claim("a runner")
    assert job is not None
    settings.output_of(job.id).mkdir(parents=True)
    assert verification.work_on_verification(job, settings, lambda event: None)
    assert [stage.layer for stage in seen[0].stages] == [3]
    told = {one["version"]: one["verdict"] for one in client.get(versions).json()["versions"]}
    assert told == {1: {"verification": id, "holds": True}, 2: None}
    entry = client.get("/v1/audit", params={"what": "schedule.verdict"}).json()["entries"][0]
    assert (entry["who"], entry["on"]) == (f"verification {id}", "digits")


def test_a_published_codebook_is_taken_from_where_it_is_kept(
    client: TestClient, request_body: dict[str, Any], settings: Settings, engine: Engine
) -> None:
    file = settings.roots[0] / "book.safetensors"
    schedule = with_codebook(file)
    client.post("/v1/schedules/digits/versions", json={"schedule": schedule.to_json_dict()})
    file.unlink()
    request = {"model": request_body["model"], "data": request_body["data"]}
    request["published"] = {"name": "digits", "version": 1}
    found = verification.checked_verification(request, settings, Registry(engine))
    (criterion,) = codebooks_of(found.schedule)
    assert codebook_content(criterion)


def test_a_codebook_below_the_roots_or_known_by_its_digest_is_verified(
    client: TestClient, request_body: dict[str, Any], settings: Settings, engine: Engine
) -> None:
    file = settings.roots[0] / "book.safetensors"
    request_body["schedule"] = with_codebook(file, named="book.safetensors").to_json_dict()
    content = file.read_bytes()

    def read() -> bytes:
        assert client.post("/v1/verifications", json=request_body).status_code == 201
        found = verification.checked_verification(request_body, settings, Registry(engine))
        (criterion,) = codebooks_of(found.schedule)
        return codebook_content(criterion)

    assert read() == content
    client.post("/v1/schedules/digits/versions", json={"schedule": request_body["schedule"]})
    file.unlink()
    request_body["schedule"] = client.get("/v1/schedules/digits/versions/1").json()["schedule"]
    assert read() == content
    for changed in ({"sha256": "0" * 64}, {"sha256": "../../etc/passwd"}, {"path": "/etc/passwd", "sha256": "1" * 64}):
        criterion = {**request_body["schedule"]["stages"][0]["criterion"], **changed}
        stages = [{**request_body["schedule"]["stages"][0], "criterion": criterion}]
        other = {**request_body, "schedule": {**request_body["schedule"], "stages": stages}}
        assert "criterion" in problem(client.post("/v1/verifications", json=other), 400)["field"]


def test_what_is_not_published_is_not_verified(client: TestClient, request_body: dict[str, Any]) -> None:
    client.post("/v1/schedules/digits/versions", json={"schedule": request_body["schedule"]})
    both = {**request_body, "published": {"name": "digits", "version": 1}}
    assert "beside another" in problem(client.post("/v1/verifications", json=both), 400)["message"]
    del request_body["schedule"]
    for published, status in (
        ({"name": "digits", "version": 2}, 404),
        ({"name": "digits", "version": "champion"}, 404),
        ({"name": "nobody", "version": 1}, 404),
        ({"name": "digits", "version": 0}, 400),
        ({"name": "digits"}, 400),
        ("digits", 400),
    ):
        problem(client.post("/v1/verifications", json={**request_body, "published": published}), status)


def test_a_study_is_no_verification(client: TestClient, study: dict[str, Any], request_body: dict[str, Any]) -> None:
    one = client.post("/v1/studies", json=study).json()["id"]
    other = client.post("/v1/verifications", json=request_body).json()["id"]
    problem(client.get(f"/v1/verifications/{one}"), 404)
    for path in ("", "/front", "/events"):
        problem(client.get(f"/v1/studies/{other}{path}"), 404)
    problem(client.post(f"/v1/studies/{other}/cancel"), 404)
    problem(client.delete(f"/v1/studies/{other}"), 404)
    assert [found["id"] for found in client.get("/v1/studies").json()["studies"]] == [one]


def test_only_writers_may_ask_for_one(client: TestClient, request_body: dict[str, Any], engine: Engine) -> None:
    roles = with_tokens(engine)
    problem(client.post("/v1/verifications", json=request_body, headers=roles["read"]), 403)
    id = client.post("/v1/verifications", json=request_body, headers=roles["write"]).json()["id"]
    assert client.get(f"/v1/verifications/{id}", headers=roles["read"]).status_code == 200
