"""Verifications over HTTP: taken in once, checked before they wait, told apart from studies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.service import problem, with_tokens

from autoprune.schedule.files import write_whole
from autoprune.search.workers.protocol import Event
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import Jobs
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
