"""Who gets in: tokens, sessions of browsers, pages of other sites, and who asks too often."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from limits import parse
from sqlalchemy import Engine, select, update
from support.service import problem, with_tokens

from autoprune.errors import StudyError
from autoprune.service.api import limits
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.tables import SESSIONS, TOKENS
from autoprune.service.store.tokens import Role, Tokens

COOKIE = "autoprune"


@pytest.fixture
def browser(client: TestClient, engine: Engine) -> Callable[[Role], TestClient]:
    """Logs in as a role."""

    def logged_in(role: Role) -> TestClient:
        token = Tokens(engine).create(role, role)
        reply = client.post("/login", data={"token": f" {token}\n"}, follow_redirects=False)
        assert (reply.status_code, reply.headers["location"]) == (303, "/studies")
        return client

    return logged_in


def test_a_session_stands_for_its_token_until_it_ends(
    browser: Callable[[Role], TestClient], engine: Engine, study: dict[str, Any]
) -> None:
    client = browser("read")
    assert client.get("/v1/studies").status_code == 200
    kept = client.cookies[COOKIE]
    with engine.begin() as connection:
        (digest,) = connection.execute(select(SESSIONS.c.digest)).scalars()
        assert kept not in digest
    client.post("/logout")
    client.cookies.set(COOKIE, kept)
    problem(client.get("/v1/studies"), 401)


@pytest.mark.parametrize("how", ["revoked", "expired", "too long ago"])
def test_a_session_ends_with_its_token_or_its_time(
    browser: Callable[[Role], TestClient], engine: Engine, how: str
) -> None:
    client = browser("write")
    assert client.get("/v1/studies").status_code == 200
    if how == "revoked":
        Tokens(engine).revoke("write")
    else:
        with engine.begin() as connection:
            connection.execute(update(TOKENS if how == "expired" else SESSIONS).values(expires=0.0))
    problem(client.get("/v1/studies"), 401)


def test_the_cookie_is_for_this_service_alone(settings: Settings, engine: Engine) -> None:
    token = Tokens(engine).create("me", "read")
    app = create_app(settings, engine)
    plain = TestClient(app, base_url="http://localhost").post("/login", data={"token": token}, follow_redirects=False)
    said = plain.headers["set-cookie"].lower()
    assert said.startswith("autoprune=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in said.split(";")}
    assert token.lower() not in said
    sure = TestClient(app, base_url="https://localhost").post("/login", data={"token": token}, follow_redirects=False)
    said = sure.headers["set-cookie"].lower()
    assert said.startswith("__host-autoprune=")
    assert "; secure" in said


def test_changes_by_cookie_need_a_proof_that_only_our_pages_have(
    browser: Callable[[Role], TestClient], study: dict[str, Any], engine: Engine
) -> None:
    client = browser("write")
    bearer = {"Authorization": f"Bearer {Tokens(engine).create('other', 'write')}"}
    id = client.post("/v1/studies", json=study, headers=bearer).json()["id"]  # a bearer token needs no proof
    found = re.search(r'name="csrf" value="(\w+)"', client.get(f"/studies/{id}").text)
    assert found is not None
    path = f"/v1/studies/{id}/cancel"
    wrong: list[dict[str, Any]] = [{}, *({"X-CSRF-Token": said} for said in ("", "a" * 64, "ä".encode("latin-1")))]
    for headers in wrong:
        assert problem(client.post(path, headers=headers), 403)["field"] == "X-CSRF-Token"
    assert client.post(f"/studies/{id}/cancel", data={"csrf": "no"}).status_code == 403
    ours = {"X-CSRF-Token": found.group(1)}
    assert problem(client.post(path, headers=ours | {"Sec-Fetch-Site": "same-site"}), 403)["field"] == "Origin"
    assert client.post(path, headers=ours | {"Sec-Fetch-Site": "same-origin"}).status_code == 200
    resumed = client.post(f"/studies/{id}/resume", data={"csrf": found.group(1)}, follow_redirects=False)
    assert (resumed.status_code, resumed.headers["location"]) == (303, f"/studies/{id}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "https://evil.example", "Authorization": "Basic x"},
    ],
)
def test_a_page_of_another_site_changes_nothing_even_where_everybody_may(
    client: TestClient, study: dict[str, Any], headers: dict[str, str]
) -> None:
    id = client.post("/v1/studies", json=study).json()["id"]  # no browser: neither header
    for path in (f"/v1/studies/{id}/cancel", f"/studies/{id}/cancel", "/login"):
        assert problem(client.post(path, headers=headers), 403)["field"] == "Origin"
    assert client.get(f"/v1/studies/{id}").json()["state"] == "queued"
    assert client.post(f"/studies/{id}/cancel", headers={"Origin": "http://localhost"}).status_code == 200


@pytest.fixture
def strict(settings: Settings, engine: Engine) -> TestClient:
    rare = settings.model_copy(update={"rate": "3/day"})  # by the clock: few tests see the end of a day
    return TestClient(create_app(rare, engine), base_url="http://localhost")


def test_who_asks_too_often_waits_and_others_do_not(strict: TestClient, engine: Engine) -> None:
    roles = with_tokens(engine)
    for _ in range(3):
        assert strict.get("/v1/studies", headers=roles["read"]).status_code == 200
    refused = strict.get("/v1/studies", headers=roles["read"])
    assert "3 per 1 day" in problem(refused, 429)["remedy"]
    assert 1 <= int(refused.headers["retry-after"]) <= 86400
    assert strict.get("/v1/studies", headers=roles["write"]).status_code == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        assert [strict.get(path).status_code for _ in range(4)] == [200] * 4


def test_without_tokens_an_address_is_counted(strict: TestClient) -> None:
    assert [strict.get("/v1/studies").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_guessing_is_slow(client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUESSES", parse("10/day"))
    good = with_tokens(engine)["read"]
    assert client.get("/v1/studies", headers=good).status_code == 200
    wrong = [client.get("/v1/studies", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(6)]
    wrong += [client.post("/login", data={"token": str(n)}).status_code for n in range(6)]
    assert wrong == [401] * 10 + [429] * 2
    assert (
        "too many tokens" in problem(client.get("/v1/studies", headers={"Authorization": "Bearer x"}), 429)["message"]
    )
    assert client.get("/v1/studies", headers=good).status_code == 200  # known before: its neighbour does not stop it
    known = {"token": good["Authorization"].split()[1]}
    assert client.post("/login", data=known, follow_redirects=False).status_code == 303


def test_a_rate_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="such as 600/minute"):
        Settings.read(folder=tmp_path, rate="often")
