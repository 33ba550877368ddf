"""The registry over HTTP: a point of a study, or a schedule from elsewhere, published and handed out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.codebooks import with_codebook
from support.fronts import make_front, save_front
from support.service import problem, with_tokens

from autoprune.schedule import Schedule
from autoprune.schedule.bundle import codebooks_of
from autoprune.service.settings import Settings

SCHEDULE = {"format": "autoprune.schedule", "version": 1, "stages": [{"layer": 3, "keep": {"ratio": 0.0}}]}
VERSIONS = "/v1/schedules/digits/versions"


@pytest.fixture
def finished(client: TestClient, study: dict[str, Any], settings: Settings) -> str:
    """Id of a study that has a front."""
    id: str = client.post("/v1/studies", json=study).json()["id"]
    front = make_front()
    front["study"]["data"] = {"validation": {"path": "v.jsonl", "samples": 512, "digest": "d" * 64}}
    front["model"] = {**front["model"], "fingerprint": "f" * 64}
    save_front(settings.output_of(id), front)
    return id


def layer(number: int) -> dict[str, Any]:
    return {"schedule": {**SCHEDULE, "stages": [{"layer": number, "keep": {"ratio": 0.0}}]}}


def test_a_point_of_a_study_is_published(client: TestClient, finished: str) -> None:
    chosen = client.get(f"/v1/studies/{finished}/schedule", params={"max_drop": 0.5}).json()
    reply = client.post(VERSIONS, json={"study": finished, "max_drop": 0.5})
    assert (reply.status_code, reply.headers["location"]) == (201, f"{VERSIONS}/1")
    assert (reply.json()["version"], reply.json()["by"]) == (1, "local")
    got = client.get(f"{VERSIONS}/1").json()
    assert got["schedule"] == chosen["schedule"]
    lineage = got["lineage"]
    assert (lineage["study_id"], lineage["study"], lineage["trial"]) == (finished, "digit-scenes", chosen["trial"])
    assert (lineage["model"], lineage["model_fingerprint"]) == ("digit-scenes", "f" * 64)
    assert lineage["data"] == {"validation": "d" * 64}
    again = client.post(VERSIONS, json={"study": finished, "trial": chosen["trial"]})
    assert again.json()["version"] == 2  # says how it was chosen, which is other evidence
    same = client.post(VERSIONS, json={"study": finished, "max_drop": 0.5})
    assert (same.status_code, same.json()["version"]) == (200, 1)


def test_the_etag_is_the_digest_of_the_content(client: TestClient) -> None:
    client.post(VERSIONS, json=layer(3))
    reply = client.get(f"{VERSIONS}/1")
    plain = json.dumps(reply.json()["schedule"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    assert (reply.json()["sha256"], reply.headers["etag"]) == (digest, f'"{digest}"')
    for known in (f'"{digest}"', f'W/"{digest}"', f'"other", "{digest}"', "*"):
        unchanged = client.get(f"{VERSIONS}/1", headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", f'"{digest}"')
    assert client.get(f"{VERSIONS}/1", headers={"If-None-Match": '"other"'}).status_code == 200
    client.put("/v1/schedules/digits/aliases/champion", json={"version": 1})
    client.post(VERSIONS, json=layer(4))
    client.put("/v1/schedules/digits/aliases/champion", json={"version": 2})
    moved = client.get(f"{VERSIONS}/champion", headers={"If-None-Match": f'"{digest}"'})
    assert (moved.status_code, moved.json()["version"]) == (200, 2)


def test_names_aliases_and_tags(client: TestClient) -> None:
    for number in (3, 4):
        client.post(VERSIONS, json=layer(number))
    client.post("/v1/schedules/other/versions", json=layer(3))
    client.put("/v1/schedules/digits/aliases/champion", json={"version": 1})
    told = client.put("/v1/schedules/digits/tags/owner", json={"value": "ann"}).json()
    assert (told["latest"], told["aliases"], told["tags"]) == (2, {"champion": 1}, {"owner": "ann"})
    assert client.get("/v1/schedules/digits").json() == told
    first = client.get("/v1/schedules", params={"limit": 1}).json()
    assert ([one["name"] for one in first["schedules"]], first["next"]) == (["digits"], "digits")
    rest = client.get("/v1/schedules", params={"after": "digits"}).json()
    assert ([one["name"] for one in rest["schedules"]], rest["next"]) == (["other"], None)
    assert [one["version"] for one in client.get(VERSIONS).json()["versions"]] == [2, 1]
    assert client.get(VERSIONS, params={"limit": 1}).json()["next"] == 2
    for gone in ("aliases/champion", "tags/owner"):
        assert client.delete(f"/v1/schedules/digits/{gone}").status_code == 204
        problem(client.delete(f"/v1/schedules/digits/{gone}"), 404)


def test_a_codebook_stays_with_its_version(client: TestClient, settings: Settings) -> None:
    file = settings.roots[0] / "book.safetensors"
    schedule = with_codebook(file, named="book.safetensors")
    content = file.read_bytes()
    assert client.post(VERSIONS, json={"schedule": schedule.to_json_dict()}).status_code == 201
    file.unlink()  # the version does not depend on it any more
    got = client.get(f"{VERSIONS}/1").json()
    (book,) = got["codebooks"]
    (criterion,) = codebooks_of(Schedule.model_validate(got["schedule"]))
    assert (book["name"], book["sha256"]) == (criterion.path, criterion.sha256)
    reply = client.get(f"{VERSIONS}/1/codebooks/{book['sha256']}")
    assert (reply.content, reply.headers["etag"]) == (content, f'"{book["sha256"]}"')
    assert book["name"] in reply.headers["content-disposition"]
    assert client.post("/v1/schedules/other/versions", json={"schedule": got["schedule"]}).status_code == 201
    client.post(VERSIONS, json=layer(3))
    problem(client.get(f"{VERSIONS}/2/codebooks/{book['sha256']}"), 404)
    problem(client.get(f"{VERSIONS}/1/codebooks/{'0' * 64}"), 404)


def test_a_codebook_comes_with_a_point_of_a_study(
    client: TestClient, finished: str, settings: Settings, study: dict[str, Any]
) -> None:
    file = settings.roots[0] / "book.safetensors"
    (stage,) = with_codebook(file).to_json_dict()["stages"]
    front = make_front()
    point = front["points"][1]
    point["schedule"]["stages"] = [stage]
    save_front(settings.output_of(finished), front)
    content, wish = file.read_bytes(), {"trial": point["trial"]}
    page = client.get(f"/studies/{finished}", params={"by": "trial", "value": point["trial"]}).text
    chosen = client.get(f"/v1/studies/{finished}/schedule", params=wish).json()
    (book,) = chosen["codebooks"]
    path = f"/v1/studies/{finished}/codebooks/{book['sha256']}"
    assert f'href="{path}" download="{book["name"]}"' in page
    file.unlink()
    assert client.get(path).content == content
    assert chosen["schedule"]["stages"][0]["criterion"]["path"] == book["name"]
    saved = client.get(f"/studies/{finished}/schedule.json", params={"by": "trial", "value": point["trial"]}).json()
    assert saved["stages"] == chosen["schedule"]["stages"]
    problem(client.get(f"/v1/studies/{finished}/codebooks/{'0' * 64}"), 404)
    assert client.post(VERSIONS, json={"study": finished, **wish}).status_code == 201
    download = f'/v1/schedules/digits/versions/1/codebooks/{book["sha256"]}" download="{book["name"]}"'
    assert download in client.get("/schedules/digits").text


def test_codebooks_that_are_not_taken(client: TestClient, settings: Settings) -> None:
    root = settings.roots[0]
    with_codebook(root / "other.safetensors", seed=1)
    with_codebook(root.parent / "outside.safetensors")
    (root / "link.safetensors").symlink_to(root.parent / "outside.safetensors")
    made = with_codebook(root / "book.safetensors")
    for changed, said in (
        ({"path": "/etc/passwd"}, "outside"),
        ({"path": "../outside.safetensors"}, "outside"),
        ({"path": "link.safetensors"}, "outside"),
        ({"path": "missing.safetensors"}, "no file"),
        ({"path": "other.safetensors"}, "another codebook"),
        ({"sha256": "../../../etc/passwd"}, "no SHA-256"),
    ):
        schedule = made.with_criteria(lambda one, changed=changed: one.model_copy(update=changed))
        error = problem(client.post(VERSIONS, json={"schedule": schedule.to_json_dict()}), 400)
        assert said in error["message"]
    problem(client.get(VERSIONS), 404)


def test_what_is_no_publication(client: TestClient) -> None:
    for body in (
        {},
        {"study": "a", "schedule": SCHEDULE},
        {"schedule": SCHEDULE, "max_drop": 0.1},
        {"schedule": SCHEDULE, "nonsense": 1},
        {"schedule": {**SCHEDULE, "nonsense": 1}},
        {"schedule": {**SCHEDULE, "stages": [{"layer": -1, "keep": {"ratio": 0.5}}]}},
        {"schedule": {**SCHEDULE, "evidence": {"note": "\ud800"}}},
        {"schedule": []},
    ):
        problem(client.post(VERSIONS, content=json.dumps(body), headers={"content-type": "application/json"}), 400)
    problem(client.get("/v1/schedules/digits"), 404)


def test_wishes_that_no_study_fulfils(client: TestClient, study: dict[str, Any], finished: str) -> None:
    problem(client.post(VERSIONS, json={"study": "nobody", "trial": 1}), 404)
    waiting = client.post("/v1/studies", json={**study, "name": "waiting"}).json()["id"]
    assert "no front yet" in problem(client.post(VERSIONS, json={"study": waiting}), 404)["message"]
    problem(client.post(VERSIONS, json={"study": finished, "max_flops": 0.0001}), 422)
    problem(client.post(VERSIONS, json={"study": finished, "max_drop": 0.1, "trial": 1}), 400)


def test_names_that_are_none(client: TestClient) -> None:
    for name in ("-x", "a b", "x" * 101, "%00", "é"):
        problem(client.post(f"/v1/schedules/{name}/versions", json=layer(3)), 400)


def test_numbers_and_aliases_that_are_none(client: TestClient) -> None:
    client.post(VERSIONS, json=layer(3))
    for wanted, status in (("2", 404), ("nobody", 404), ("999999999", 404), ("9999999999", 400), ("-1", 400)):
        problem(client.get(f"{VERSIONS}/{wanted}"), status)
    for alias, version, status in (("champion", 2, 404), ("7", 1, 400), ("champion", 0, 400), ("champion", "1x", 400)):
        problem(client.put(f"/v1/schedules/digits/aliases/{alias}", json={"version": version}), status)
    for value in ("x" * 501, "\u0000", 5):
        problem(client.put("/v1/schedules/digits/tags/owner", json={"value": value}), 400)
    assert client.get("/v1/schedules/digits").json()["tags"] == {}


def test_roles(client: TestClient, engine: Engine) -> None:
    as_role = with_tokens(engine)
    changes = [
        ("post", VERSIONS, layer(3)),
        ("put", "/v1/schedules/digits/aliases/champion", {"version": 1}),
        ("put", "/v1/schedules/digits/tags/owner", {"value": "ann"}),
    ]
    for method, path, body in changes:
        assert problem(getattr(client, method)(path, json=body, headers=as_role["read"]), 403)["value"] == "read"
        assert getattr(client, method)(path, json=body, headers=as_role["write"]).status_code in (200, 201)
    for path in ("/v1/schedules", "/v1/schedules/digits", VERSIONS, f"{VERSIONS}/champion"):
        problem(client.get(path), 401)
        assert client.get(path, headers=as_role["read"]).status_code == 200
    for path in ("aliases/champion", "tags/owner"):
        problem(client.delete(f"/v1/schedules/digits/{path}", headers=as_role["read"]), 403)
    entries = client.get("/v1/audit", params={"on": "digits"}, headers=as_role["admin"]).json()["entries"]
    assert [(one["who"], one["what"]) for one in reversed(entries)] == [
        ("write", "schedule.publish"),
        ("write", "schedule.alias"),
        ("write", "schedule.tag"),
    ]
