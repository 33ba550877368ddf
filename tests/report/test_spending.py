from __future__ import annotations

import pytest
from support.fronts import make_front, typed

from autoprune.report.page import render_page
from autoprune.report.spending import growth, spending_notes, spending_rows


def trials(*given: tuple[str, float, float, int]) -> dict:
    front = make_front()
    front["dense"]["accuracy"] = 1.0
    front["study"]["trials"] = [
        {
            "trial": number,
            "name": f"trial {number}",
            "state": state,
            "flops_ratio": flops,
            "accuracy": right,
            "samples": rows,
        }
        for number, (state, flops, right, rows) in enumerate(given)
    ]
    return front


def test_the_front_grows_with_the_rows_that_were_run_those_of_stopped_candidates_included():
    whole = (("COMPLETE", 0.8, 0.2, 100), ("COMPLETE", 0.2, 0.9, 100))
    found = growth(typed(trials(("COMPLETE", 0.5, 0.9, 100), ("PRUNED", 0.4, 0.9, 30), *whole)))
    assert found.row_forwards == [100, 230, 330]
    # Accuracy 1 is dense; the useful area ends at a loss of 15 points.
    assert found.useful == pytest.approx([0.5 / 0.8, 0.5 / 0.8, 1.0])
    assert found.full == pytest.approx([0.45 / 0.72, 0.45 / 0.72, 1.0])


def test_a_front_that_holds_nothing_useful_yet_has_no_useful_area():
    found = growth(typed(trials(("COMPLETE", 0.5, 0.5, 100), ("COMPLETE", 0.4, 0.95, 100))))
    assert found.useful[0] == 0.0


def test_costs_are_those_of_each_phase_and_of_all():
    front = make_front()
    rows = spending_rows(typed(front))
    assert [row.phase for row in rows][-1] == "all"
    assert rows[-1].row_forwards == f"{sum(c['row_forwards'] for c in front['study']['costs'].values()):,}"
    assert next(row for row in rows if row.phase == "control arms").share == "12.2 %"
    del front["study"]["costs"]
    assert spending_rows(typed(front)) == []


def test_what_was_stopped_is_counted_by_reason():
    front = trials(("COMPLETE", 0.5, 0.9, 100), ("PRUNED", 0.4, 0.9, 50), ("FAIL", 0.4, 0.9, 0))
    front["study"]["stopped"] = {"raced": 3, "not worth the rest": 2, "failed": 1, "over budget": 4}
    front["study"]["data"]["calibration"]["samples"] = 100
    notes = dict(spending_notes(typed(front)))
    assert notes["Candidates"] == "2 measured, 1 of them on all calibration rows"
    assert "3 beaten with confidence" in notes["Stopped"]
    assert "2 not worth the rest" in notes["Stopped"]
    assert "1 failed; 4 not begun" in notes["Stopped"]
    assert notes["Saved by stopping"].startswith("25.0 %")


def test_older_files_have_no_costs_and_are_shown():
    front = make_front()
    for name in ("costs", "stopped", "left_out", "hit_rate", "within"):
        del front["study"][name]
    page = render_page(typed(front))
    assert "Rows run" not in page
    assert "Not looked at" not in page
    assert "beaten with confidence" in page


def test_what_the_study_left_out_is_said():
    page = render_page(typed())
    assert "Not looked at" in page
    assert "this vision tower has no attention that could be read" in page
