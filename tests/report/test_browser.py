"""The page in a real browser: it draws, sorts, filters and selects, says nothing on the console, fetches nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from support.fronts import make_front, typed

from autoprune.report.page import render_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium: apt-get install chromium")

WATCH = """<script>
const heard = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, (e) => heard.push(kind + ": " + (e.message || e.reason || e.violatedDirective)), true);
for (const level of ["error", "warn"]) console[level] = (...said) => heard.push(level + ": " + said.join(" "));
</script>"""
TRY = """<script>
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
</script>"""


@pytest.fixture(scope="module", params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def seen(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    page = render_page(typed(make_front()), "runs/x").replace("<style>", WATCH + "<style>", 1)
    page = page.replace("</body>", TRY + "</body>")
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"]
    flags += [f"--window-size={request.param[0]},{request.param[1]}", f"--user-data-dir={folder / 'profile'}"]
    out = subprocess.run(
        [BROWSER, *flags, "--dump-dom", f"file://{folder}/page.html"], capture_output=True, text=True, timeout=120
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', out.stdout, re.S)
    assert found, out.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


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
