from __future__ import annotations

import pytest
from support.fronts import make_front, typed

from autoprune.report.claims import cost_sentence, preset_sentence
from autoprune.report.export import NoPointError, select_point


def test_the_sentence_on_published_methods_names_each_with_its_verdict_and_interval():
    front = make_front()
    said = preset_sentence(typed(front))
    assert said.startswith(
        "On 510 validation rows the front beats `vtw` and `fastv`; it cannot be told apart from `himap`"
    )
    for verdict in front["study"]["presets"]:
        low, high = (f"{end * 100:.1f}".replace("-", "−") for end in verdict["difference_ci"])
        assert (f"[{low}, {high}]" in said) == (verdict["verdict"] != "beaten")
    assert "corrected for 4 methods" in said


def test_a_verdict_is_never_claimed_without_one():
    front = make_front()
    front["study"]["presets"] = [
        {k: v[k] for k in ("name", "trial", "beaten", "by")} for v in front["study"]["presets"]
    ]
    assert preset_sentence(typed(front)) == "No published method was measured."


def test_rows_of_the_search_are_called_so():
    front = make_front()
    for verdict in front["study"]["presets"]:
        verdict["split"] = "calibration"
    assert preset_sentence(typed(front)).startswith("On the rows of the search")


def test_the_sentence_on_cost_is_that_of_the_export():
    front = typed(make_front())
    point, said = select_point(front, max_drop=0.02), cost_sentence(front, 0.02)
    assert f"needs {point.validation.flops_ratio * 100:.1f} % of the prefill FLOPs" in said
    assert f"loses {point.validation.drop * 100:.1f} [" in said
    with pytest.raises(NoPointError):
        cost_sentence(typed({**make_front(), "points": make_front()["points"][:1]}), 0.0)
