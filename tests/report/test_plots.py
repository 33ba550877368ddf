from __future__ import annotations

from matplotlib.image import imread
from support.fronts import make_front, typed

from autoprune.report.page import write_report
from autoprune.report.plots import front_png


def test_the_report_is_a_page_and_a_picture_that_is_not_blank(tmp_path):
    page, picture = write_report(typed(make_front(trials=25)), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "front.png"}
    assert page.stat().st_size > 1_000_000  # plotly is inside
    pixels = imread(picture)
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.05


def test_writing_again_replaces(tmp_path):
    write_report(typed(make_front(trials=25)), tmp_path)
    front = make_front(trials=25)
    front["study"]["name"] = "second"
    page, _ = write_report(typed(front), tmp_path)
    assert "second" in page.read_text(encoding="utf-8")


def test_dollar_signs_in_names_are_no_mathematics(tmp_path):
    front = make_front(tasks=("$\\frac$", "one"))
    front["study"]["name"] = front["baselines"][0]["name"] = "$\\nonsense{$"
    front_png(typed(front), tmp_path / "front.png")
    assert (tmp_path / "front.png").is_file()
