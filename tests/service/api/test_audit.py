"""The audit log over HTTP: each change with the name of its caller, shown to admins alone."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.service import problem, with_tokens


def test_who_did_what(client: TestClient, study: dict[str, Any], engine: Engine) -> None:
    id = client.post("/v1/studies", json=study).json()["id"]  # there is no token yet
    as_role = with_tokens(engine)
    client.post(f"/v1/studies/{id}/cancel", headers=as_role["write"])
    client.post(f"/v1/studies/{id}/resume", headers=as_role["admin"])
    client.post(f"/v1/studies/{id}/cancel", headers=as_role["write"])
    client.delete(f"/v1/studies/{id}", headers=as_role["admin"])
    for role in ("read", "write"):
        assert problem(client.get("/v1/audit", headers=as_role[role]), 403)["value"] == role
    problem(client.get("/v1/audit"), 401)
    reply = client.get("/v1/audit", params={"on": id}, headers=as_role["admin"]).json()
    told = [(entry["who"], entry["what"]) for entry in reversed(reply["entries"])]
    verbs = [("local", "submit"), ("write", "cancel"), ("admin", "resume"), ("write", "cancel"), ("admin", "delete")]
    assert told == [(who, f"study.{verb}") for who, verb in verbs]


def test_pages(client: TestClient, study: dict[str, Any]) -> None:
    ids = [client.post("/v1/studies", json={**study, "name": name}).json()["id"] for name in "abc"]
    first = client.get("/v1/audit", params={"limit": 2}).json()
    assert [entry["on"] for entry in first["entries"]] == ids[:0:-1]
    rest = client.get("/v1/audit", params={"after": first["next"]}).json()
    assert ([entry["on"] for entry in rest["entries"]], rest["next"]) == (ids[:1], None)
    problem(client.get("/v1/audit", params={"limit": 0}), 400)
    problem(client.get("/v1/audit", params={"after": "nobody"}), 400)
