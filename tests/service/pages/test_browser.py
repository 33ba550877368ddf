"""The pages in a real browser against a real server: a study watched to its end, keys alone, phones, no network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.fronts import make_front, save_front, typed
from support.service import listening

from autoprune.report.page import write_report
from autoprune.search.workers.protocol import Event
from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord, Jobs
from autoprune.service.store.registry import Registry
from autoprune.service.store.tokens import Tokens
from autoprune.service.work.publication import Publication

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
HOSTILE = """</script><script>window.ran=1</script><img src=x onerror="window.ran=2">"'{{7*7}}"""
WATCH = """addEventListener("securitypolicyviolation",
  (e) => console.error("policy: " + e.violatedDirective + " " + e.blockedURI), true);"""
FOCUS = """() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
  return { what: e.tagName, said: e.textContent.trim() || e.name, seen: s.outlineStyle !== "none" && r.width > 0
    && r.left >= 0 && r.right <= innerWidth + 1 }; }"""
STREAM = """(id) => new Promise((done) => {
  const events = new EventSource(`/v1/studies/${id}/events`);
  events.onerror = () => done("refused");
  events.addEventListener("end", () => { events.close(); done("end"); });
})"""


@dataclass
class Served:
    """A service on this machine, and its record."""

    url: str
    settings: Settings
    jobs: Jobs
    events: Events
    tokens: Tokens
    registry: Registry

    def add(self, name: str, **request: Any) -> JobRecord:
        self.jobs.submit("study", name, {"name": name, **request})
        job = self.jobs.claim("runner")
        assert job is not None
        return job

    def finish(self, job: JobRecord, seed: int = 0) -> None:
        front = make_front(trials=30, seed=seed)
        front["study"]["name"] = job.name
        write_report(typed(front), save_front(self.settings.output_of(job.id), front))
        self.jobs.finish(job, "done")


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    settings = Settings(folder=folder, roots=(folder,))
    engine = open_database(settings.database_url)
    with listening(create_app(settings, engine)) as url:
        yield Served(url, settings, Jobs(engine, 3600), Events(engine), Tokens(engine), Registry(engine))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # starts a process of its own

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@dataclass
class Heard:
    """What a page said on its console, and what it asked other machines for."""

    said: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def nothing(self) -> None:
        assert self.said == []
        assert self.elsewhere == []


@pytest.fixture
def visit(chromium: Any, service: Served) -> Iterator[Callable[..., tuple[Any, Heard]]]:
    """Opens a window, and listens."""
    contexts = []

    def opened(url: str = service.url, **looks: Any) -> tuple[Any, Heard]:
        context = chromium.new_context(base_url=url, **looks)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page, heard = context.new_page(), Heard()
        page.add_init_script(WATCH)
        page.on("console", lambda m: heard.said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: heard.said.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((url, "data:")) else heard.elsewhere.append(r.url))
        return page, heard

    yield opened
    for context in contexts:
        context.close()


def trial(number: int, cost: float, quality: float) -> Event:
    data = {"trial": number, "state": "COMPLETE", "name": f"t{number}{HOSTILE}", "values": [cost, quality]}
    return Event("trial", "", number + 1, 20, data)


def test_a_study_is_watched_from_the_list_to_its_schedule(
    service: Served, visit: Callable[..., tuple[Any, Heard]]
) -> None:
    other = service.add("earlier")
    service.finish(other, seed=1)
    job = service.add("watched")
    page, heard = visit()
    page.goto("/studies")
    page.get_by_role("link", name="watched").click()
    page.get_by_text("No schedule has been measured").wait_for()
    service.events.add(job, [Event("phase", "searching", 0, 20), trial(0, 0.5, 0.9), trial(1, 0.3, 0.8)])
    page.get_by_text("2 of 20").wait_for()
    page.get_by_text("Provisional: 2 schedules").wait_for()
    assert page.locator(".plot .point").count() == 4  # both explored, both on the front
    service.events.add(job, [trial(2, 0.2, 0.85)])
    page.get_by_text("Provisional: 3 schedules").wait_for()
    service.finish(job)
    page.get_by_role("heading", name="Points of the front").wait_for()  # the page came again by itself
    page.locator(".plot .point").first.wait_for()
    page.get_by_label("Which").select_option("max_flops")
    page.get_by_text("--max-flops 0.5").first.wait_for()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save schedule.json").click()
    assert '"autoprune.schedule"' in saved.value.path().read_text()
    page.get_by_label("Publish as").fill("small")
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("heading", name="Versions").wait_for()
    page.get_by_role("link", name="watched").click()
    page.get_by_label("Compare with").select_option(label="earlier")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Within the same loss").wait_for()
    page.locator(".plot .point").first.wait_for()
    assert {"watched", "earlier"} <= set(page.locator(".legendtext").all_text_contents())
    assert page.evaluate("window.ran") is None
    heard.nothing()


def test_a_study_is_cancelled_and_deleted(service: Served, visit: Callable[..., tuple[Any, Heard]]) -> None:
    job, _ = service.jobs.submit("study", "unwanted", {})
    page, heard = visit()
    page.goto(f"/studies/{job.id}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Resume").wait_for()
    assert service.jobs.get(job.id).state == "cancelled"
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Keep it").click()
    assert not page.get_by_role("button", name="Delete for good").is_visible()
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_role("heading", name="Studies").wait_for()
    assert "unwanted" not in page.content()
    heard.nothing()


def test_the_login_and_what_it_opens(tmp_path: Path, visit: Callable[..., tuple[Any, Heard]]) -> None:
    with served(tmp_path) as guarded:
        job, _ = guarded.jobs.submit("study", "mine", {})
        token = guarded.tokens.create("maria", "write")
        page, heard = visit(guarded.url)
        page.goto(f"/studies/{job.id}")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Cancel").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Resume").wait_for()
        assert page.evaluate(STREAM, job.id) == "end"  # its stream knows the cookie too
        assert page.evaluate("document.cookie") == ""
        heard.nothing()
        page.goto("/studies")
        guarded.tokens.revoke("maria")
        page.get_by_label("Token").wait_for()  # the list asked for news, and was led to the login


def test_a_page_of_another_site_cancels_nothing(service: Served, visit: Callable[..., tuple[Any, Heard]]) -> None:
    job = service.add("target")
    page, _ = visit()
    hostile = f"""<form id=f method=post action="{service.url}/studies/{job.id}/cancel"></form>"""
    page.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=hostile))
    page.goto("http://evil.example/")
    page.evaluate("document.getElementById('f').submit()")
    page.get_by_text("another site").wait_for()
    assert not service.jobs.get(job.id).cancelling
    service.finish(job)


def test_a_service_that_does_not_answer_is_said(service: Served, visit: Callable[..., tuple[Any, Heard]]) -> None:
    page, _ = visit()
    page.goto("/studies")
    page.route(re.compile("/studies"), lambda route: route.abort())
    page.get_by_text("does not answer").wait_for()
    page.unroute_all()
    page.get_by_text("does not answer").wait_for(state="hidden")


def test_keys_alone_reach_everything_and_it_shows(service: Served, visit: Callable[..., tuple[Any, Heard]]) -> None:
    job = service.add("by keys")
    service.finish(job)
    page, _ = visit()
    page.goto(f"/studies/{job.id}")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS)["said"] == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"/studies/{job.id}")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        if at["what"] == "BODY":
            break
        assert at["seen"], at
        reached.append(at["said"].split("\n")[0])
    assert {"Studies", "Compare", "Report", "Delete …", "Show", "Save schedule.json", "Copy", "value"} <= set(reached)
    unnamed = "e => !(e.labels?.length || e.getAttribute('aria-label') || e.type === 'hidden')"
    assert page.locator("input, select").evaluate_all(f"all => all.filter({unnamed}).map(e => e.outerHTML)") == []


LOOKS = [((1280, 900), "light"), ((390, 844), "dark")]
ALL_LOOKS = [((390, 844), "light"), ((1280, 900), "dark"), ((320, 640), "light")]


@pytest.mark.parametrize(
    ("size", "scheme"), [*LOOKS, *(pytest.param(*look, marks=pytest.mark.slow) for look in ALL_LOOKS)]
)
def test_every_page_fits_and_is_silent(
    service: Served, visit: Callable[..., tuple[Any, Heard]], size: tuple[int, int], scheme: str
) -> None:
    tag = f"{size[0]}{scheme}"
    done = service.add(f"done {tag} {HOSTILE}", model={"path": "/a/very/long/path" * 12})
    service.finish(done)
    failed = service.add(f"failed-{tag}-{'x' * 120}")
    service.events.add(failed, [trial(0, 0.5, 0.9), Event("warning", "w" * 300)])
    service.jobs.finish(failed, "failed", "/no/such/folder" * 20)
    running = service.add(f"running {tag}")
    service.events.add(running, [Event("phase", "searching", 0, 20), trial(0, 0.5, 0.9)])
    front = service.settings.output_of(done.id)
    schedule, lineage = Publication(study=done.id, max_drop=0.5).of_study(front)
    name = f"n{tag}-{'y' * 80}"
    service.registry.publish(name, schedule, lineage)
    service.registry.set_tag(name, "team", "z" * 200)
    page, heard = visit(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    ids = [job.id for job in (done, failed, running)]
    for path in (
        "/studies",
        *(f"/studies/{id}" for id in ids),
        f"/compare?a={ids[0]}&b={ids[0]}",
        "/compare",
        "/schedules",
        f"/schedules/n{tag}-{'y' * 80}",
    ):
        page.goto(path)
        if page.locator("[data-chart]").count():
            page.locator(".plot .point").first.wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        red, *_ = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (red < 64) == (scheme == "dark")
        assert page.evaluate("window.ran") is None
    page.goto(f"/v1/studies/{done.id}/report")
    page.locator("#chart .point").first.wait_for()
    heard.nothing()
    service.jobs.finish(running, "cancelled")
