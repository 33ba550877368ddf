from __future__ import annotations

from dataclasses import dataclass

import pytest

from autoprune import presets
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.search.front import Point
from autoprune.search.standings import Standings

ROWS = 200


@dataclass(frozen=True)
class Arm:
    """A schedule with the rows that it gets right: numbers from 0 on, and its cost in percent."""

    trial: int
    flops: int
    calibration: int
    validation: int | None
    name: str = ""

    def results(self, split: str) -> list[SampleResult] | None:
        right = getattr(self, split)
        if right is None:
            return None
        return [
            SampleResult(i, f"r{i}", None, f"g{i}", float(i < right), 1.0, 0.1, "", True, self.flops, 100, 1, 1, 1, 1)
            for i in range(ROWS)
        ]

    def point(self) -> Point:
        held = self.results("validation")
        return Point(
            **dict(summarise(self.results("calibration"))),
            trial=self.trial,
            name=self.name or f"trial {self.trial}",
            schedule=presets.vtw(self.trial),
            validation=summarise(held) if held else None,
        )


def standings(points: list[Arm], baselines: list[Arm]) -> Standings:
    arms = {a.trial: a for a in (*points, *baselines)}
    return Standings(
        ("flops", "accuracy"),
        [a.point() for a in points],
        [a.point() for a in baselines],
        lambda split, point: arms[point.trial].results(split),
    )


def verdict(points: list[Arm], baseline: Arm, *more: Arm):
    named = [(b.name, b.trial) for b in (baseline, *more)]
    return standings(points, [baseline, *more]).verdicts(named)[0]


def test_a_method_is_beaten_by_a_point_that_costs_no_more_and_is_better_beyond_its_interval():
    found = verdict([Arm(1, 30, 190, 190)], Arm(2, 30, 150, 150, "fastv"))
    assert (found.verdict, found.beaten, found.by) == ("beaten", True, 1)
    assert found.difference == pytest.approx(0.2)
    assert 0 < found.difference_ci[0] < 0.2 < found.difference_ci[1]
    assert (found.samples, found.split) == (ROWS, "validation")


def test_a_lead_that_chance_explains_is_no_victory():
    found = verdict([Arm(1, 30, 190, 152)], Arm(2, 30, 150, 150, "fastv"))
    assert (found.verdict, found.beaten, found.by) == ("matched", False, 1)
    assert found.difference_ci[0] <= 0 <= found.difference_ci[1]


def test_a_method_that_is_better_with_confidence_is_not_matched():
    assert verdict([Arm(1, 30, 190, 150)], Arm(2, 30, 180, 190, "fastv")).verdict == "not beaten"


def test_nothing_that_costs_more_is_compared():
    found = verdict([Arm(1, 31, 190, 190)], Arm(2, 30, 100, 100, "fastv"))
    assert (found.verdict, found.by, found.difference) == ("not beaten", None, None)


def test_the_point_is_chosen_on_calibration_rows():
    lucky, chosen = Arm(1, 20, 150, 199), Arm(3, 30, 180, 160)
    assert verdict([lucky, chosen], Arm(2, 30, 150, 150, "fastv")).by == 3


def test_a_point_that_was_lucky_on_calibration_does_not_hide_one_that_is_better():
    lucky, steady, cheap = Arm(1, 30, 199, 150), Arm(3, 25, 180, 190), Arm(5, 20, 170, 180)
    found = verdict([lucky, steady, cheap], Arm(2, 30, 150, 150, "fastv"))
    assert (found.verdict, found.by) == ("beaten", 5), "the cheapest that is better"
    assert found.adjusted_p > found.p


def test_a_published_method_does_not_beat_another_in_the_name_of_the_search():
    listed = Arm(1, 20, 190, 190, "diversity")
    found = standings([listed], [listed, Arm(2, 30, 100, 100, "fastv")]).verdicts([("fastv", 2)])
    assert found[0].by is None


def test_more_methods_need_more_evidence():
    ours, close = [Arm(1, 30, 190, 190)], Arm(2, 30, 183, 183, "close")
    alone = verdict(ours, close)
    assert alone.verdict == "beaten"
    assert alone.difference_ci[0] > 0
    others = [Arm(k, 30, 189, 189, f"other {k}") for k in range(3, 9)]
    among = verdict(ours, close, *others)
    assert among.p == alone.p
    assert among.adjusted_p == pytest.approx(7 * alone.p)
    assert among.verdict == "matched"


def test_a_method_without_measurements_has_no_verdict():
    (found,) = standings([Arm(1, 30, 190, 190)], []).verdicts([("fastv", 4)])
    assert (found.verdict, found.beaten, found.trial) == (None, False, 4)


def test_without_held_out_rows_the_rows_of_the_search_are_named():
    found = verdict([Arm(1, 30, 190, None)], Arm(2, 30, 100, None, "fastv"))
    assert (found.verdict, found.split) == ("beaten", "calibration")


def test_points_are_marked_against_the_methods_that_cost_no_less():
    good, poor, unmeasured = Arm(1, 30, 190, 190), Arm(3, 25, 160, 151), Arm(5, 20, 100, None)
    found = standings([good, poor, unmeasured], [Arm(2, 30, 150, 150, "fastv"), Arm(4, 28, 150, 150, "vtw")]).marks()
    marks = {trial: found.get(presets.vtw(trial).key, ()) for trial in (1, 3, 5)}
    assert [(m.against, m.decided) for m in marks[1]] == [("fastv", True)]
    assert [(m.against, m.decided) for m in marks[3]] == [("fastv", False), ("vtw", False)]
    assert marks[5] == ()
