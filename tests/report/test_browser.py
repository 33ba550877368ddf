"""The page in a real browser: it draws, sorts, filters and selects, says nothing on the console, fetches nothing."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
import subprocess

import pytest
from pydantic import ValidationError
from support.fronts import make_front, typed

from autoprune.report.page import render_page
from autoprune.report.rendering import script_sources
from autoprune.search.front import FrontFile

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium: apt-get install chromium")

WATCH = """
const heard = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, (e) => heard.push(kind + ": " + (e.message || e.reason || e.violatedDirective)), true);
for (const level of ["error", "warn"]) console[level] = (...said) => heard.push(level + ": " + said.join(" "));
"""
TRY = """
addEventListener("load", () => setTimeout(() => {
  const one = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];
  const names = () => all("#points tbody tr:not([hidden]) th").map((th) => th.textContent);
  const head = (name) => all("#points thead button").find((b) => b.textContent === name);
  const enter = (id, value) => { one(id).value = value; one(id).dispatchEvent(new Event("input")); };
  const seen = { start: names(), shown: all("#details article.shown h3").map((h) => h.textContent) };
  head("FLOPs").click(); seen.cheapest = names();
  head("FLOPs").click(); seen.dearest = names();
  enter("#filter-words", "vtw"); seen.found = names(); enter("#filter-words", "");
  enter("#filter-drop", "3"); seen.near = names(); enter("#filter-drop", "");
  one("#filter-control").click(); seen.with_controls = names().length;
  one("#points tr[data-kind=preset]").click();
  seen.selected = all("#details article.shown h3").map((h) => h.textContent);
  seen.marks = all("#chart .point").length;
  seen.fetched = performance.getEntriesByType("resource").map((r) => r.name);
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.heard = heard;
  document.body.innerHTML = "<pre id=seen></pre>"; one("#seen").textContent = JSON.stringify(seen);
}, 500));
"""
# Every place of a page: text, attribute in both quotes, script, the mark-up and the entities that plotly reads.
HOSTILE = (
    """</script><script>window.ran=1</script><img src=x onerror="window.ran=2">"'><b onclick=ran>&amp;"""
    """<a href="javascript:ran">$x\\y {{ 7*7 }}"""
)
LOOK = """
addEventListener("load", () => setTimeout(() => {
  for (const row of document.querySelectorAll("#points tr[data-key]")) row.click();
  const seen = { ran: window.ran ?? null, text: document.body.textContent, heard };
  seen.drawn = [...document.querySelectorAll("#chart text")].map((text) => text.textContent);
  seen.added = ["img", "b[onclick]", "a[href]"].filter((what) => document.querySelector(what));
  seen.scripts = document.scripts.length;
  document.body.innerHTML = "<pre id=seen></pre>"; document.querySelector("#seen").textContent = JSON.stringify(seen);
}, 500));
"""


def with_scripts(page, first, last):
    """The page with two more scripts that its policy lets run, before all others and after them."""
    page = page.replace("script-src ", f"script-src {script_sources(first, last)} ", 1)
    page = page.replace("<style>", f"<script>{first}</script><style>", 1)
    return page.replace("</body>", f"<script>{last}</script></body>")


def opened(page, folder, size=(1280, 900)):
    """What the last script of a page leaves in it."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"]
    flags += [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder / 'profile'}"]
    out = subprocess.run(
        [BROWSER, *flags, "--dump-dom", f"file://{folder}/page.html"], capture_output=True, text=True, timeout=120
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', out.stdout, re.S)
    assert found, out.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


def crafted():
    """A front in which every text that may be any text ends in hostile signs, and how many texts these are."""
    front, count = copy.deepcopy(make_front(trials=6, tasks=(f"one{HOSTILE}", f"two{HOSTILE}"))), 0
    for place, key in list(texts(front)):
        before, place[key] = place[key], f"{place[key]}{HOSTILE}"
        try:
            FrontFile.model_validate(front)
            count += 1
        except ValidationError:  # not any text
            place[key] = before
    return front, count


def texts(part):
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(value, dict | list):
            yield from texts(value)
        elif isinstance(value, str):
            yield part, key


@pytest.fixture(scope="module", params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def seen(request, tmp_path_factory):
    page = with_scripts(render_page(typed(make_front()), "runs/x"), WATCH, TRY)
    return opened(page, tmp_path_factory.mktemp("page"), request.param)


def test_texts_of_a_front_are_shown_and_do_nothing(tmp_path):
    front, count = crafted()
    assert count > 100
    front["baselines"][0]["validation"]["accuracy"] = 0.01  # so far below the others that its name stands at the edge
    page = render_page(typed(front), f"run{HOSTILE}")
    own = page.count("</script>")
    # The policy is loosened, so that it is the page alone that keeps a text from being more than text.
    page = re.sub(r"script-src [^;]*", "script-src 'unsafe-inline'", with_scripts(page, WATCH, LOOK), count=1)
    seen = opened(page, tmp_path)
    assert (seen["ran"], seen["added"], seen["heard"], seen["scripts"]) == (None, [], [], own + 2)
    assert front["study"]["name"] in seen["text"]
    for name in (front["points"][0]["name"], front["baselines"][0]["name"], *front["dense"]["tasks"]):
        assert name in seen["text"]
    low, *others = (point["name"] for point in front["baselines"])
    for name in (f"▼ {low}", *others):
        assert any(name in text for text in seen["drawn"])


def test_a_script_that_is_not_the_pages_own_does_not_run(tmp_path):
    added = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><p onclick='window.ran = 3'></p>"
    page = render_page(typed(make_front())).replace("<main", f"{added}<main", 1)
    assert "unsafe" not in re.search("script-src ([^;]*)", page).group(1)
    seen = opened(with_scripts(page, WATCH, LOOK), tmp_path)
    assert seen["ran"] is None
    assert seen["drawn"]
    assert any(said.startswith("securitypolicyviolation: script-src") for said in seen["heard"])


def test_it_is_silent_and_fetches_nothing(seen):
    assert seen["heard"] == []
    assert seen["fetched"] == []


def test_the_page_never_scrolls_sideways(seen):
    assert seen["wide"] <= 0


def test_every_named_point_is_drawn(seen):
    front = make_front()
    named = len(front["points"]) + len(front["baselines"])  # dense stands in for itself among the points
    assert seen["marks"] >= named + len(front["study"]["trials"]) // 2


def test_the_table_sorts_both_ways(seen):
    front = make_front()
    on_front = sorted(front["points"], key=lambda p: p["validation"]["flops_ratio"])
    assert seen["cheapest"][0] == on_front[0]["name"]
    assert seen["cheapest"] == seen["dearest"][::-1]
    assert seen["dearest"][0] == "dense"


def test_the_table_filters(seen):
    assert seen["found"] == ["vtw"]
    assert 0 < len(seen["near"]) < len(seen["start"])
    assert seen["with_controls"] == len(seen["start"]) + len(make_front()["controls"])


def test_a_row_shows_its_schedule(seen):
    assert len(seen["shown"]) == 1
    assert len(seen["selected"]) == 1
    assert seen["selected"] != seen["shown"]
