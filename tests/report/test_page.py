from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from support.fronts import make_front, typed

from autoprune.report.page import render_page


class Page(HTMLParser):
    """What a reader of the source finds: text, tags, and the embedded data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id", "") if tag == "script" else tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data
        elif self._inside not in ("script", "style", ""):
            self.text += data + " "
        elif not self._inside:
            self.text += data + " " if len(data) < 5000 else ""


@pytest.fixture(scope="module")
def front():
    return make_front()


@pytest.fixture(scope="module")
def page(front):
    return Page(render_page(typed(front), "runs/x"))


def test_it_needs_nothing_from_outside(page):
    for tag, attributes in page.tags:
        assert not attributes.get("src")
        assert tag not in ("link", "iframe", "img", "object")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_every_point_preset_and_control_is_in_the_table(front, page):
    rows = [a for t, a in page.tags if t == "tr" and a.get("data-kind")]
    kinds = [a["data-kind"] for a in rows]
    on_front = {p["trial"] for p in front["points"]}
    assert kinds.count("front") == len([p for p in front["points"] if p["schedule"]["stages"]])
    assert kinds.count("preset") == len([p for p in front["baselines"] if p["trial"] not in on_front])
    assert kinds.count("control") == len(front["controls"])
    assert kinds.count("dense") == 1


def test_the_headline_is_the_default_export(front, page):
    dense = front["dense"]["validation"]["accuracy"]
    fits = [p for p in front["points"] if p["schedule"]["stages"] and dense - p["validation"]["accuracy"] <= 0.01]
    best = min(fits, key=lambda p: p["validation"]["flops_ratio"])
    kept = best["validation"]["accuracy"] / dense
    assert f"{kept * 100:.1f} %" in page.text
    assert f"{best['validation']['flops_ratio'] * 100:.0f} %" in page.text
    assert re.search(rf"[Tt]rial {best['trial']}\b", page.text)


def test_it_says_so_when_no_point_is_good_enough(front):
    poor = make_front()
    poor["points"] = [p for p in poor["points"] if p["validation"]["drop"] > 0.02]
    text = Page(render_page(typed(poor))).text
    assert "No schedule stays within 1 point of dense" in text
    assert "the default of" not in text


def test_every_published_method_has_a_verdict_with_its_comparison(front, page):
    verdicts = front["study"]["presets"]
    assert {v["verdict"] for v in verdicts} == {"beaten", "matched"}
    for v in verdicts:
        by = f"{v['difference'] * 100:.1f}".replace("-", "−")
        assert re.search(rf"{v['name']}\s[\s\d.%]*{v['verdict']} \s*trial {v['by']}: [^[]*{by} \[", page.text)
    assert "Beaten: vtw and fastv; matched: himap and pyramiddrop." in page.text


def test_a_method_that_is_better_than_the_front_is_said_to_be_so(front):
    worse = make_front()
    worse["study"]["presets"][2] |= {"verdict": "not beaten", "difference": -0.02, "adjusted_p": 0.01}
    worse["study"]["presets"][3] |= {"verdict": "not beaten", "by": None, "difference": None, "difference_ci": None}
    text = Page(render_page(typed(worse))).text
    assert "not beaten: himap and pyramiddrop." in text
    assert "no point that was searched for costs as little" in text


def test_a_file_from_before_intervals_says_what_beaten_meant(front):
    older = make_front()
    keys = ("name", "trial", "beaten", "by")
    older["study"]["presets"] = [{k: v[k] for k in keys} for v in older["study"]["presets"]]
    text = Page(render_page(typed(older))).text
    assert "costs less at no lower estimate" in text
    assert "by estimates, no test" in text
    assert "Holm" not in text.split("Published methods")[-1].split("Task by task")[0]


def test_every_task_and_the_worst_one_is_shown(front, page):
    for task in front["dense"]["tasks"]:
        assert re.search(rf"\b{task}\b", page.text)
    assert any(t == "td" and a.get("class") == "worst" for t, a in page.tags)


def test_the_notes_tell_rows_convention_versions_and_seeds(front, page):
    study = front["study"]
    for said in (
        study["convention"],
        study["versions"]["torch"],
        study["hardware"]["cpu"],
        "512 rows",
        "sampler 0",
        "4 min 10 s of it",
        "0.04 %",
    ):
        assert str(said) in page.text


def test_an_interrupted_or_unvalidated_study_is_said_before_the_figures():
    front = make_front()
    front["study"]["complete"] = False
    front["points"][0]["validation"] = None
    text = Page(render_page(typed(front))).text
    assert "stopped before its end" in text
    assert "flatter it" in text


def test_hostile_names_cannot_leave_their_place():
    front = make_front()
    front["study"]["name"] = front["points"][1]["name"] = "</script><script>alert(1)</script>"
    html = render_page(typed(front))
    assert "<script>alert(1)" not in html


def test_every_criterion_has_a_colour_on_a_light_and_on_a_dark_page():
    front = make_front()
    criteria = [
        {"name": "attention", "rows": "raters"},
        {"name": "attention", "rows": "text", "combine": "visual"},
        {"name": "diversity"},
        {"name": "codebook", "path": "book.safetensors", "sha256": "0" * 64},
    ]
    for layer, criterion in enumerate(criteria):
        front["baselines"][layer]["schedule"]["stages"] = [
            {"layer": 0 if criterion["name"] == "codebook" else 1, "keep": {"ratio": 0.5}, "criterion": criterion}
        ]
    source = render_page(typed(front))
    drawn = {name for t, a in Page(source).tags if t == "rect" for name in a["class"].split()} - {"gone", "varies"}
    assert {"c-raters", "c-text-visual", "c-diversity", "c-codebook", "c-none"} <= drawn
    for name in drawn - {"c-none"}:
        assert len(re.findall(rf"\.{name} {{ fill: #[0-9a-f]{{6}}; }}", source)) == 2, name


def test_embedded_schedules_are_the_ones_of_the_front(front, page):
    data = json.loads(page.data)
    for point in front["points"]:
        if point["schedule"]["stages"]:
            assert data["schedules"][f"front-{point['trial']}"] == point["schedule"]


def test_a_front_judged_by_kl_is_readable():
    front = make_front()
    front["study"]["objectives"] = ["flops", "kl"]
    text = Page(render_page(typed(front))).text
    assert "Stays within" in text or "nats of dense" in text
    assert "better in KL(dense ‖ pruned)" in text


def test_a_front_without_points_says_so():
    front = make_front()
    front["points"] = [p for p in front["points"] if not p["schedule"]["stages"]]
    assert "No pruned schedule was measured" in Page(render_page(typed(front))).text


def beyond(limit: float = 0.15) -> dict:
    """A front whose points that lose more than the limit were measured on calibration rows only."""
    front = make_front()
    for point in front["points"]:
        if point["drop"] > limit:
            point |= {"validation": None, "latency": None, "marks": None, "left_out": "loses too much"}
    return front


def test_points_without_held_out_figures_are_hollow_and_have_no_held_out_columns():
    front = beyond()
    far = [p["trial"] for p in front["points"] if not p["validation"]]
    assert far
    source = render_page(typed(front))
    data = json.loads(Page(source).data)
    hollow = next(t for t in data["traces"] if t["name"] == "Calibration only")
    assert hollow["customdata"] == [f"front-{trial}" for trial in far]
    assert hollow["marker"]["symbol"] == "circle-open"
    assert "error_y" not in hollow
    assert not set(hollow["customdata"]) & set(next(t for t in data["traces"] if t["name"] == "Front")["customdata"])
    assert "Hollow: calibration rows only, as they lose more than 15.0 points on them." in data["note"]
    row = re.search(rf'<tr data-key="front-{far[0]}".*? data-kind="front" data-drop=""(.*?)</tr>', source, re.S)
    assert "calibration only" in row[1]
    drop = next(p["drop"] for p in front["points"] if p["trial"] == far[0])
    assert f"{drop * 100:.1f}" in row[1]
    assert "flatter it" not in Page(source).text
    assert "loses too much" in Page(source).text


def test_a_control_arm_that_was_decided_early_shows_its_test_and_no_estimate():
    front = make_front()
    arm = next(c for c in front["controls"] if c["mark"]["decided"] and c["name"].startswith("random"))
    arm |= {"validation": None, "samples": 64, "accuracy": 0.123}
    arm["mark"]["samples"] = 64
    source = render_page(typed(front))
    assert "12.3 %" not in Page(source).text
    assert "64 to 510 rows" in Page(source).text
    shown = next(t for t in json.loads(Page(source).data)["traces"] if t["name"] == "Controls")
    assert len(shown["x"]) == len(front["controls"]) - 1


def test_the_calibration_drop_stands_beside_the_held_out_one(front, page):
    rows = re.findall(r'<tr data-key="front-(\d+)"[^>]*data-kind="front".*?</tr>', render_page(typed(front)), re.S)
    assert len(rows) == len([p for p in front["points"] if p["schedule"]["stages"]])
    heads = [text for text in ("On calibration", "Drop (points)") if text in page.text]
    assert len(heads) == 2
    point = next(p for p in front["points"] if p["validation"]["drop"] > p["drop"])
    gap = point["validation"]["drop"] - point["drop"]
    assert f"+{gap * 100:.1f}" in page.text


def test_a_cost_that_depends_on_the_input_shows_its_spread():
    front = make_front()
    front["points"][1]["spread"] = {"p10": 0.21, "p50": 0.3, "p90": 0.43, "max": 0.6}
    assert "(inputs: 21 % to 43 %, 80 % of them)" in Page(render_page(typed(front))).text


def test_times_are_beside_the_flops_that_they_come_from(front, page):
    times = front["points"][0]["latency"]
    fast = times["prefill_dense_ms"] / times["prefill_ms"]
    assert f"{fast:.2f}×" in page.text
    assert "FLOPs and time" in page.text


def test_names_of_methods_below_the_frame_do_not_cover_each_other():
    front = make_front()
    for preset, cost in zip(front["baselines"], (0.5, 0.52, 0.9, 0.51), strict=True):
        preset["validation"] |= {"accuracy": 0.1, "flops_ratio": cost}
    below = json.loads(Page(render_page(typed(front))).data)["below"]
    assert len(below) == 4
    lines = {note["x"]: note["yshift"] for note in below}
    assert len({lines[cost] for cost in (0.5, 0.51, 0.52)}) == 3
    assert lines[0.9] == min(lines.values())


def test_columns_of_control_arms_that_hold_nothing_are_left_out():
    front = make_front()
    assert "Ahead of random by" in Page(render_page(typed(front))).text
    for arm in front["controls"]:
        arm |= {"validation": None, "samples": 64}
    text = Page(render_page(typed(front))).text
    assert "Ahead of random by" not in text
    assert "Better than every arm?" in text


def test_a_front_without_a_price_end_to_end_says_so(front):
    unpriced = json.loads(json.dumps(front))
    for point in [unpriced["dense"], *unpriced["points"], *unpriced["baselines"], *unpriced["controls"]]:
        for figures in [point, point.get("validation")]:
            if figures:
                figures["flops_ratio_end_to_end"] = None
    text = Page(render_page(typed(unpriced), "runs/x")).text
    assert "not priced end to end" in text
    assert "FLOPs end to end are not priced" in text
    assert "not priced" not in Page(render_page(typed(front), "runs/x")).text
