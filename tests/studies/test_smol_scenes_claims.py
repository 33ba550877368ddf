"""Whether a claim holds: the rules, on verdicts that are made up; and the blocks of outcome.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import claims
import outcome
import pytest
from judging import costs_nothing, is_better, is_no_worse, keeps

from autoprune.evaluate.results import SampleResult

ONE = SampleResult(0, "", "color", "", 1.0, 1.0, 0.0, "", True, 1, 1, None, None, 1, 1)


def rows(right: int, of: int = 400) -> list[SampleResult]:
    """The first `right` of some rows are answered rightly; two rows a picture."""
    return [replace(ONE, index=i, group=str(i // 2), correct=float(i < right)) for i in range(of)]


@pytest.mark.parametrize(
    ("right", "of", "said"), [(380, 400, "holds"), (300, 400, "does not hold"), (374, 400, "cannot be told")]
)
def test_a_loss_is_judged_by_its_whole_interval(right: int, of: int, said: str):
    assert costs_nothing(rows(380, of), rows(right, of)).verdict == said


def test_few_rows_can_tell_nothing():
    assert costs_nothing(rows(8, 10), rows(8, 10)).verdict == "cannot be told"
    assert is_better([rows(8, 10)], [rows(7, 10)]).verdict == "cannot be told"


@pytest.mark.parametrize(("right", "said"), [(390, "holds"), (300, "does not hold"), (342, "cannot be told")])
def test_a_share_is_of_the_dense_accuracy(right: int, said: str):
    found = keeps(rows(380), rows(right), 0.9)
    assert found.verdict == said
    assert found.figure.startswith(f"{100 * right / 380:.1f} % is left")


def test_a_lead_is_told_from_none_and_from_too_little_rows():
    assert is_better([rows(300)], [rows(200), rows(100)]).verdict == "holds"
    assert is_better([rows(300)], [rows(300)]).verdict == "does not hold"
    assert is_better([rows(200)], [rows(300)]).verdict == "does not hold"
    assert is_no_worse([rows(300)], [rows(300)]).verdict == "holds"
    assert is_no_worse([rows(200)], [rows(300)]).verdict == "does not hold"


@pytest.mark.parametrize(
    ("draws", "taken", "said"),
    [
        ({"14": 60, "15": 100, "16": 40}, "15", "holds"),
        ({"9": 100, "15": 100}, "15", "does not hold"),
        ({"none": 200}, "none", "holds"),
        ({"none": 170, "15": 30}, "none", "cannot be told"),
    ],
)
def test_draws_agree_if_they_take_the_layer_or_the_next_one(draws: dict[str, int], taken: str, said: str):
    assert claims.same_layer(draws, taken).verdict == said


def test_a_curve_is_above_where_intervals_do_not_meet():
    high, low = {"low": [0.5] * 4, "high": [0.6] * 4}, {"low": [0.1] * 4, "high": [0.2] * 4}
    wide = {"low": [0.1] * 4, "high": [0.9] * 4}
    assert claims.above(high, low, range(4)).verdict == "holds"
    assert claims.above(low, high, range(4)).verdict == "does not hold"
    assert claims.above(high, wide, range(4)).verdict == "cannot be told"


def test_blocks_are_replaced_between_their_marks_and_others_stay(tmp_path: Path):
    text = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n"
    (tmp_path / "one.txt").write_text("new\n")
    found = outcome.filled(text, lambda name: outcome.told(name, tmp_path))
    assert found == text.replace("old", "new")
    assert outcome.filled(found, lambda name: outcome.told(name, tmp_path)) == found


@pytest.mark.parametrize("name", outcome.COMMANDS)
def test_what_is_not_measured_is_told_as_such(name: str, tmp_path: Path):
    assert outcome.told(name, tmp_path) is None


def test_every_block_of_the_outcome_is_known():
    text = (outcome.HERE / "outcome.md").read_text()
    names = {match["name"] for match in outcome._BLOCK.finditer(text)}
    assert set(outcome.COMMANDS) <= names
