from __future__ import annotations

from support.fronts import make_front, typed

from autoprune.report.choices import CONFIDENCE, DROPS, choice_rows
from autoprune.report.export import select_point
from autoprune.report.exported import claim_of
from autoprune.report.page import render_page
from autoprune.report.promises import Promise, promise_of
from autoprune.report.wishes import Wish


def test_both_choices_stand_side_by_side_for_every_loss():
    front = typed()
    rows = choice_rows(front)
    assert [row.bound for row in rows] == ["1 point"] * 2 + ["2 points"] * 2 + ["5 points"] * 2
    assert [row.sure for row in rows] == ["point estimate", "95 % confidence"] * 3
    for bound, estimate, promise in zip(DROPS, rows[::2], rows[1::2], strict=True):
        assert estimate.key == f"front-{select_point(front, max_drop=bound).trial}"
        claim = claim_of(front, Wish.of(front, max_drop=bound))
        assert estimate.cells[2:] == (f"{100 * claim.drop:.1f}", f"{100 * claim.risk:.0f} %")
        found = promise_of(front, {"*": bound}, CONFIDENCE)
        if isinstance(found, Promise):
            assert promise.key == f"front-{found.point.trial}"
            assert promise.cells[2] == f"at most {100 * found.most:.1f}"
        else:
            assert "none can be promised" in promise.reason
    assert any(row.reason for row in rows)
    assert any(row.key for row in rows[1::2])


def test_the_page_shows_them_and_the_commands():
    page = render_page(typed(), "runs/x")
    assert "How sure do you want to be?" in page
    assert "export runs/x --max-drop 0.02 --confidence 0.95" in page
    assert "with at least 85 %" in page


def test_without_verdicts_of_rows_the_page_leaves_them_out():
    front = make_front()
    del front["study"]["verdicts"]
    assert choice_rows(typed(front)) == []
    assert "How sure do you want to be?" not in render_page(typed(front))
    judged = make_front()
    judged["study"]["objectives"] = ["flops", "kl"]
    assert choice_rows(typed(judged)) == []
