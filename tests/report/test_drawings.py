from __future__ import annotations

import pytest
from support.fronts import make_front, typed

from autoprune import Schedule
from autoprune.report.chart import below_frame, chart_data, visible_range
from autoprune.report.drawings import kept_shares, large_drawing, small_drawing

TEXT = {"name": "attention", "rows": "text"}
SCHEDULE = Schedule.model_validate(
    {
        "stages": [
            {"layer": 2, "keep": {"ratio": 0.5}, "criterion": TEXT},
            {"layer": 4, "keep": {"count": 36}, "criterion": TEXT},
            {"layer": 6, "keep": {"ratio": 0.0}},
        ]
    }
)


def test_shares_follow_the_stages():
    shares = [share for share, _ in kept_shares(SCHEDULE.stages, 8, 144)]
    assert shares == [1, 1, 0.5, 0.5, 0.25, 0.25, 0, 0]


def test_a_share_that_depends_on_the_input_is_not_invented():
    schedule = Schedule.model_validate({"stages": [{"layer": 3, "keep": {"mass": 0.9}, "criterion": TEXT}]})
    assert [share for share, _ in kept_shares(schedule.stages, 5, 144)] == [1, 1, 1, None, None]


@pytest.mark.parametrize("draw", [small_drawing, large_drawing])
def test_bars_are_as_high_as_the_shares(draw):
    drawing = draw(SCHEDULE, 8, 144)
    heights = [bar.height / drawing.bars_height for bar in drawing.bars]
    assert [round(h, 3) for h in heights] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0, 0]
    assert all(bar.y + bar.height == pytest.approx(drawing.bars_height) for bar in drawing.bars)


@pytest.mark.parametrize("layers", [8, 30, 80])
def test_the_share_of_the_first_and_of_the_last_layer_is_not_cut_off(layers):
    last = Schedule.model_validate({"stages": [{"layer": layers - 1, "keep": {"ratio": 0.0}}]})
    drawing = large_drawing(last, layers, 144)
    first, end = (label.x for label in drawing.labels if label.kind == "share")
    half = 4 * 13 * 0.7 / 2  # "100%" in bold letters of 13, each at most 0.7 of that wide
    assert half <= first < end <= drawing.width - half


def test_a_drawing_is_readable_without_seeing_it():
    assert "before layer 2: keep 50 % by attention of the text" in small_drawing(SCHEDULE, 8, 144).words


def test_a_published_method_far_below_is_named_at_the_edge():
    front = make_front()
    front["baselines"][0]["validation"]["accuracy"] = 0.31
    file = typed(front)
    low, _, cut = visible_range(file, [*file.points, *file.baselines, file.dense])
    assert low > 0.31
    assert cut >= 1
    (named,) = below_frame(file, list(file.baselines), low)
    assert named == (front["baselines"][0]["validation"]["flops_ratio"], 0, "▼ vtw 31 %")


@pytest.mark.parametrize("above", [-0.01, 0.01])
def test_a_published_method_at_the_edge_is_named_there_alone(above):
    front = make_front()
    low, _, _ = visible_range(typed(front), [*typed(front).points, typed(front).dense])
    front["baselines"][0]["validation"]["accuracy"] = low + above
    chart = chart_data(typed(front))
    (presets,) = (trace for trace in chart["traces"] if trace["name"] == "Presets")
    assert "vtw" not in presets["text"]
    assert any("vtw" in note["text"] for note in chart["below"])
