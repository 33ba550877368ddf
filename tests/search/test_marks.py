"""Marks: what is decided, on how many rows, and how often wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from autoprune.search.marks import Looks, Pair, marks, open_pairs

ROWS = 256
GROUPS = [row // 2 for row in range(ROWS)]
LOOKS = Looks(range(ROWS), (32, 64, 128, 256), GROUPS)


def pair(against: str, wrong: float, rows: int = ROWS, *, seed: int = 0, ours: float = 0.0) -> Pair:
    """A point that errs on a share `ours` of the rows, beside an arm that errs on a share `wrong` of them."""
    chance = np.random.default_rng(seed)
    mine = (chance.random(ROWS) >= ours).astype(float)
    theirs = (chance.random(ROWS) >= wrong).astype(float)
    return Pair("point", against, dict(enumerate(mine)), dict(enumerate(theirs[:rows])))


def test_a_clear_difference_is_decided_on_few_rows() -> None:
    (mark,) = marks([pair("random-0", 0.5, 32)], LOOKS)
    assert mark.against == "random-0"
    assert mark.decided
    assert mark.samples == 32
    assert open_pairs([pair("random-0", 0.5, 32)], LOOKS) == []


def test_no_difference_is_never_decided_and_given_up_early() -> None:
    same = pair("uniform", 0.0, 64)
    (mark,) = marks([same], LOOKS)
    assert (mark.p, mark.decided, mark.samples) == (1.0, False, 64)
    assert open_pairs([same], LOOKS) == []


def test_a_small_difference_stays_open_until_all_rows() -> None:
    few, all_rows = pair("uniform", 0.06, 64, seed=3), pair("uniform", 0.06, seed=3)
    assert not marks([few], LOOKS)[0].decided
    assert open_pairs([few], LOOKS) == [few]
    (mark,) = marks([all_rows], LOOKS)
    assert (mark.decided, mark.samples) == (True, ROWS)
    assert open_pairs([all_rows], LOOKS) == [], "there are no more rows"


def test_a_point_that_is_behind_is_not_marked() -> None:
    (mark,) = marks([pair("uniform", 0.0, ours=0.3)], LOOKS)
    assert (mark.p, mark.decided) == (1.0, False)


def test_rows_between_two_looks_do_not_count_yet() -> None:
    assert marks([pair("uniform", 0.5, 100)], LOOKS)[0].samples == 64
    nothing = marks([pair("uniform", 0.5, 10)], LOOKS)[0]
    assert (nothing.samples, nothing.p, nothing.decided) == (0, 1.0, False)
    assert len(open_pairs([pair("uniform", 0.5, 10)], LOOKS)) == 1


def test_more_comparisons_ask_for_more() -> None:
    close = pair("uniform", 0.03, seed=1)
    alone = marks([close], LOOKS)[0]
    among = marks([close, *(pair("random", 0.0) for _ in range(30))], LOOKS)[0]
    assert alone.decided
    assert not among.decided
    assert among.p == alone.p < among.adjusted_p


def test_a_decision_is_not_taken_back_when_others_go_on() -> None:
    clear = pair("random-0", 0.5, 32)
    others = [pair("uniform", 0.06, rows, seed=3) for rows in (64, 256)]
    assert marks([clear, others[0]], LOOKS)[0].decided
    assert marks([clear, others[1]], LOOKS)[0].decided


def test_one_look_at_rows_of_all_pairs() -> None:
    (mark,) = marks([pair("vtw", 0.06, seed=3)], Looks.one(GROUPS))
    assert mark.samples == ROWS
    assert mark.p < marks([pair("vtw", 0.06, seed=3)], LOOKS)[0].p, "nothing was spent before"


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_points_no_better_than_chance_are_marked_rarely(share: float) -> None:
    """Families of 8 comparisons without any difference, stopped as a study stops them."""
    wrong = 0
    for family in range(200):
        pairs = [pair("random", share, seed=1000 * family + i, ours=share) for i in range(8)]
        wrong += any(mark.decided for mark in marks(pairs, LOOKS))
    assert wrong / 200 <= 0.05
