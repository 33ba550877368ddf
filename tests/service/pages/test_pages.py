"""The pages as they are sent: what they show, to whom, and what a browser may do with them."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from support.fronts import make_front, save_front
from support.service import with_tokens

from autoprune.schedule import Schedule
from autoprune.search.workers.protocol import Event
from autoprune.service.pages import charts
from autoprune.service.pages.assets import address_of
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord, Jobs, State
from autoprune.service.store.registry import Registry
from autoprune.service.store.tokens import Tokens

HOSTILE = """</script><script>window.ran=1</script><img src=x onerror="window.ran=2">"'&amp;{{7*7}}"""
PART = {"HX-Request": "true"}
Add = Callable[..., JobRecord]


@pytest.fixture
def add(engine: Engine, settings: Settings) -> Add:
    """Adds a study that stands somewhere, with a front where it is done."""
    jobs = Jobs(engine)

    def added(name: str, state: State = "queued", reason: str = "", **request: Any) -> JobRecord:
        job, _ = jobs.submit("study", name, {"name": name, **request})
        if state == "queued":
            return job
        while (claimed := jobs.claim("r1")) is not None and claimed.name != name:
            jobs.give_back(claimed)
        assert claimed is not None
        job = claimed
        if state == "done":
            save_front(settings.output_of(job.id), make_front(trials=30))
        return job if state == "running" else jobs.finish(job, state, reason)

    return added


def trial(number: int, values: list[float] | None) -> Event:
    data = {"trial": number, "state": "COMPLETE" if values else "PRUNED", "name": f"t{number}", "values": values}
    return Event("trial", "", number + 1, 50, data)


def test_the_list_is_filtered_and_paged(client: TestClient, add: Add) -> None:
    add("broken", "failed", "no such model")
    for number in range(26):
        add(f"waits-{number}")
    first = client.get("/studies").text
    assert "waits-25" in first
    assert "broken" not in first
    assert "failed <span" in first
    older = client.get(html.unescape(re.findall(r'href="(/studies\?after=[^"]*)"', first)[0]))
    assert "broken" in older.text
    assert "no such model" in older.text
    failed = client.get("/studies", params={"state": "failed"}).text
    assert "broken" in failed
    assert "waits-" not in failed
    part = client.get("/studies", headers=PART).text
    assert "<html" not in part
    assert "waits-25" in part
    assert client.get("/", follow_redirects=False).headers["location"] == "/studies"


def test_names_and_reasons_are_text(client: TestClient, add: Add) -> None:
    job = add(f"bad{HOSTILE}", "failed", f"because{HOSTILE}", model={"path": HOSTILE})
    budget = f"/studies/{job.id}/take?by={quote(HOSTILE)}&value=1"
    for path in (
        "/studies",
        f"/studies/{job.id}",
        f"/studies/{job.id}/state",
        budget,
        f"/login?then=/{quote(HOSTILE)}",
    ):
        shown = client.get(path).text
        assert "<script>" not in shown
        assert "<img" not in shown
    assert f"bad{HOSTILE}" in html.unescape(client.get(f"/studies/{job.id}").text)


def test_problems_are_pages(client: TestClient, add: Add) -> None:
    done = add("done", "done")
    for reply, status, said in (
        (client.get("/studies/nobody"), 404, "no such study"),
        (client.post(f"/studies/{done.id}/cancel"), 409, "has ended"),
        (client.get("/studies", params={"state": "lost"}), 400, "state"),
        (client.get(f"/studies/{done.id}", params={"by": "luck"}), 404, "is no budget"),
        (client.get(f"/studies/{done.id}", params={"by": "trial", "value": "inf"}), 400, "value"),
        (client.get(f"/studies/{done.id}/take", params={"by": "trial", "value": "nan"}), 400, "value"),
        (client.get("/schedules/some", params={"after": "9" * 30}), 400, "after"),
        (client.get("/compare", params={"a": done.id, "b": add("new").id}), 404, "no front yet"),
    ):
        assert reply.status_code == status
        assert said in reply.text
        assert reply.text.startswith("<!doctype html>")
    gone = client.get("/studies/nobody/state", headers=PART)
    assert (gone.status_code, gone.headers["hx-refresh"]) == (404, "true")
    assert client.get("/nowhere").json()["error"]["value"] == "/nowhere"


def test_a_running_study(client: TestClient, add: Add, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "_AT_ONCE", 2)
    monkeypatch.setattr(charts, "FRESH", 0.0)
    job, events = add("now", "running", objectives=["flops", "kl"]), Events(engine)
    empty = client.get(f"/studies/{job.id}/chart.json").json()
    assert (empty["traces"], empty["goes_on"]) == ([], True)
    events.add(job, [Event("phase", "searching", 0, 50), Event("warning", f"odd{HOSTILE}")])
    events.add(job, [trial(0, [0.5, 0.1]), trial(1, None), trial(2, [0.6, 0.2]), trial(3, [0.4, 0.3])])
    shown = client.get(f"/studies/{job.id}").text
    assert "searching" in shown
    assert "4 of 50" in shown
    assert "odd&lt;/script&gt;" in shown
    chart = client.get(f"/studies/{job.id}/chart.json")
    assert chart.json()["traces"][1]["x"] == [0.4, 0.5]  # 2 is dearer than 0 and worse
    assert "Provisional: 3 schedules" in chart.json()["note"]
    seen = {"If-None-Match": chart.headers["etag"]}
    assert client.get(f"/studies/{job.id}/chart.json", headers=seen).status_code == 304
    events.add(job, [trial(3, [0.4, 0.05])])
    assert client.get(f"/studies/{job.id}/chart.json", headers=seen).json()["traces"][1]["x"] == [0.4]
    same = client.get(f"/studies/{job.id}/state", params={"shown": "running"}, headers=PART)
    assert "hx-refresh" not in same.headers
    Jobs(engine).finish(job, "failed", "no memory")
    changed = client.get(f"/studies/{job.id}/state", params={"shown": "running"}, headers=PART)
    assert changed.headers["hx-refresh"] == "true"
    assert "no memory" in changed.text
    assert not client.get(f"/studies/{job.id}/chart.json").json()["goes_on"]


def test_many_readers_of_a_chart_cost_the_database_as_much_as_one(
    client: TestClient, add: Add, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = add("now", "running"), list[str]()
    Events(engine).add(job, [trial(0, [0.5, 0.9])])
    monkeypatch.setattr(charts, "FRESH", 60.0)
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    first = client.get(f"/studies/{job.id}/chart.json")
    assert any("event" in sql for sql in asked)
    asked.clear()
    for _ in range(50):
        assert client.get(f"/studies/{job.id}/chart.json").content == first.content
    assert not [sql for sql in asked if "event" in sql or "job" in sql]


def test_readers_that_wait_for_a_database_that_is_away_do_not_try_one_after_the_other(
    client: TestClient, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tried = add("now", "running"), list[str]()

    def away(jobs: Jobs, id: str, kind: str | None = None) -> JobRecord:
        tried.append(id)
        raise OperationalError("select", None, OSError("away"))

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "get", away)
        patch.setattr(charts, "FRESH", 60.0)
        replies = [client.get(f"/studies/{job.id}/chart.json") for _ in range(5)]
    assert [reply.status_code for reply in replies] == [503] * 5
    assert len(tried) == 1
    monkeypatch.setattr(charts, "FRESH", 0.0)
    assert client.get(f"/studies/{job.id}/chart.json").status_code == 200


def test_buttons_do_what_they_say(client: TestClient, add: Add, engine: Engine, settings: Settings) -> None:
    job = add("one")
    path = f"/studies/{job.id}"

    def pressed(verb: str) -> str:
        assert f'action="{path}/{verb}"' in client.get(path).text
        reply = client.post(f"{path}/{verb}", follow_redirects=False)
        assert reply.status_code == 303
        return str(reply.headers["location"])

    assert (pressed("cancel"), Jobs(engine).get(job.id).state) == (path, "cancelled")
    assert (pressed("resume"), Jobs(engine).get(job.id).state) == (path, "queued")
    pressed("cancel")
    save_front(settings.output_of(job.id))
    assert pressed("delete") == "/studies"
    assert client.get(path).status_code == 404
    assert not settings.output_of(job.id).exists()


def test_a_front_and_a_schedule_of_it(client: TestClient, add: Add) -> None:
    job = add("done", "done")
    chart = client.get(f"/studies/{job.id}/chart.json").json()
    assert {"Front", "Dense"} <= {trace["name"] for trace in chart["traces"]}
    shown = client.get(f"/studies/{job.id}", params={"by": "max_drop", "value": 0.05}).text
    assert "autoprune export" in shown
    part = client.get(f"/studies/{job.id}/take", params={"by": "max_flops", "value": 0.5}).text
    assert "max_flops=0.5" in html.unescape(part)
    assert "the nearest" in client.get(f"/studies/{job.id}/take", params={"by": "max_flops", "value": 0.0001}).text
    saved = client.get(f"/studies/{job.id}/schedule.json", params={"by": "max_drop", "value": 0.05})
    assert "attachment" in saved.headers["content-disposition"]
    asked = client.get(f"/v1/studies/{job.id}/schedule", params={"max_drop": 0.05}).json()
    assert Schedule.model_validate(saved.json()) == Schedule.model_validate(asked["schedule"])


def test_two_studies_on_one_chart(client: TestClient, add: Add) -> None:
    a, b = add("first", "done"), add("second", "done")
    both = {"a": a.id, "b": b.id}
    shown = client.get("/compare", params=both).text
    assert "Within the same loss" in shown
    assert f'value="{a.id}" selected' in shown
    assert len(client.get("/compare/chart.json", params=both).json()["traces"]) == 4


def test_a_point_is_published_and_an_alias_moved(client: TestClient, add: Add, engine: Engine) -> None:
    job = add("first", "done")
    assert "Nothing is published yet" in client.get("/schedules").text

    def published(**wish: Any) -> Any:
        return client.post(f"/studies/{job.id}/publish", data={"name": "ocr.small", **wish}, follow_redirects=False)

    assert published(by="max_drop", value="0.05").headers["location"] == "/schedules/ocr.small"
    published(by="max_drop", value="0.5")
    assert published(by="max_drop", value="0.5", name="../x").status_code == 400
    assert published(by="max_flops", value="0.0001").status_code == 422
    client.post("/schedules/ocr.small/alias", data={"alias": "champion", "version": "1"})
    client.put("/v1/schedules/ocr.small/tags/team", json={"value": HOSTILE})
    Registry(engine).record_verdict("ocr.small", 1, {"holds": False})
    shown = client.get("/schedules/ocr.small").text
    assert "versions/champion&#39; | jq .schedule" in shown
    assert "does not hold" in shown
    assert f'<a href="/studies/{job.id}">' in shown
    assert client.get("/v1/schedules/ocr.small/versions/champion").json()["version"] == 1
    for page in (shown, client.get("/schedules").text):
        assert "<script>" not in page
        assert "champion" in page
    assert client.get("/schedules/nothing").status_code == 404


def test_who_is_not_known_is_led_to_the_login_and_back(client: TestClient, add: Add, engine: Engine) -> None:
    job = add("one")
    token = Tokens(engine).create("reader", "read")
    reply = client.get(f"/studies/{job.id}?by=trial", follow_redirects=False)
    assert reply.headers["location"] == f"/login?then=%2Fstudies%2F{job.id}%3Fby%3Dtrial"
    assert client.get("/studies", headers=PART, follow_redirects=False).headers["hx-redirect"] == "/login"
    form = client.get(reply.headers["location"]).text
    assert f'name="then" value="/studies/{job.id}?by=trial"' in form
    wrong = client.post("/login", data={"token": "no"})
    assert wrong.status_code == 401
    assert "The token is not valid" in wrong.text
    right = client.post("/login", data={"token": token, "then": f"/studies/{job.id}"}, follow_redirects=False)
    assert right.headers["location"] == f"/studies/{job.id}"
    shown = client.get(f"/studies/{job.id}").text
    assert "reader" in shown
    assert "/cancel" not in shown  # may only look


@pytest.mark.parametrize(
    "then",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "j:x", ""],
)
def test_the_login_leads_nowhere_else(client: TestClient, engine: Engine, then: str) -> None:
    token = Tokens(engine).create("me", "read")
    assert "Go on" not in client.get("/login", params={"then": then}).text
    reply = client.post("/login", data={"token": token, "then": then}, follow_redirects=False)
    assert reply.headers["location"] == "/studies"


def test_headers_of_pages(client: TestClient, add: Add) -> None:
    headers = client.get(f"/studies/{add('one').id}").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "/studies" not in client.get("/openapi.json").json()["paths"]


def test_files_are_kept_by_browsers_and_need_no_token(client: TestClient, engine: Engine) -> None:
    with_tokens(engine)
    for name in ("plotly.min.js", "htmx.min.js", "pages.css", "report.css", "shared.js", "pages.js", "icon.svg"):
        plain = client.get(address_of(name), headers={"Accept-Encoding": "identity"})
        packed = client.get(address_of(name))
        assert plain.content == packed.content
        assert packed.headers["content-encoding"] == "gzip"
        assert "immutable" in plain.headers["cache-control"]
    assert client.get("/static/old/pages.css").headers["cache-control"] == "no-cache"
    assert client.get("/static/x/vendored.json").status_code == 404


def test_what_is_vendored_is_what_was_published() -> None:
    folder = files("autoprune.service.pages") / "static"
    vendored = json.loads((folder / "vendored.json").read_text())
    assert list(vendored) == ["htmx.min.js"]
    for name, told in vendored.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told["sha256"]
        assert "Zero-Clause BSD" in (folder / told["licence_file"]).read_text()
