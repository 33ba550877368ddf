from __future__ import annotations

import re

import pytest
from support.fronts import make_front

from autoprune.report.drawings import kept_shares, large_drawing, small_drawing
from autoprune.report.frame import below_frame, visible_range

TEXT = {"name": "attention", "rows": "text"}
STAGES = [
    {"layer": 2, "keep": {"ratio": 0.5}, "criterion": TEXT},
    {"layer": 4, "keep": {"count": 36}, "criterion": TEXT},
    {"layer": 6, "keep": {"ratio": 0.0}},
]


def test_shares_follow_the_stages():
    shares = [share for share, _ in kept_shares(STAGES, 8, 144)]
    assert shares == [1, 1, 0.5, 0.5, 0.25, 0.25, 0, 0]


def test_a_share_that_depends_on_the_input_is_not_invented():
    stages = [{"layer": 3, "keep": {"mass": 0.9}, "criterion": TEXT}]
    assert [share for share, _ in kept_shares(stages, 5, 144)] == [1, 1, 1, None, None]


@pytest.mark.parametrize("draw", [small_drawing, large_drawing])
def test_bars_are_as_high_as_the_shares(draw):
    svg = draw(STAGES, 8, 144)
    full = float(re.search(r'class="gone"[^>]* height="([\d.]+)"', svg).group(1))
    heights = [float(h) for h in re.findall(r'class="c-\w+"[^>]* height="([\d.]+)"', svg)]
    assert [round(h / full, 3) for h in heights] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_drawing_is_readable_without_seeing_it():
    assert "before layer 2: keep 50 % by attention of the text" in small_drawing(STAGES, 8, 144)


def test_a_published_method_far_below_is_named_at_the_edge():
    front = make_front()
    front["baselines"][0]["validation"]["accuracy"] = 0.31
    low, _, cut = visible_range(front, [*front["points"], *front["baselines"], front["dense"]])
    assert low > 0.31
    assert cut >= 1
    (named,) = below_frame(front, front["baselines"], low)
    assert named == (front["baselines"][0]["validation"]["flops_ratio"], "▼ vtw 31 %")
