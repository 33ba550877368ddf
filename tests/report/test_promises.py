from __future__ import annotations

import numpy as np
import pytest
from support.fronts import make_front, typed

from autoprune.errors import StudyError
from autoprune.evaluate.promise import p_values
from autoprune.evaluate.verify import claim as claimed_by
from autoprune.report.export import NoPointError, select_point
from autoprune.report.exported import claim_of, exported
from autoprune.report.promises import Promise, Shortfall, losses_by_part, promise_of, sequence_of
from autoprune.report.wishes import Wish
from autoprune.schedule import Schedule


def passing(front, bounds, confidence=0.95):
    """Trials that pass one after another, from the dearest on, by a plain loop over points and bounds."""
    found = typed(front)
    order, kept = sequence_of(found), []
    parts = losses_by_part(found.study.verdicts["validation"], order, bounds)
    for place, point in enumerate(order):
        p = [p_values(parts[task].statistics(), bound)[0, place] for task, bound in bounds.items()]
        if max(p) > 1 - confidence:
            break
        kept.append(point.trial)
    return kept


@pytest.mark.parametrize("bounds", [{"*": 0.03}, {"*": 0.1}, {"*": 0.1, "where": 0.3}, {"read": 0.2}])
def test_the_last_that_passed_is_promised(bounds):
    front = make_front()
    kept = passing(front, bounds)
    assert kept, "the made-up front must let some pass"
    found = promise_of(typed(front), bounds, 0.95)
    assert isinstance(found, Promise)
    assert found.point.trial == kept[-1]
    if "*" in bounds:
        assert found.point.validation.drop < found.most <= bounds["*"]


def test_a_promise_is_dearer_than_the_point_estimate_and_more_certainty_is_dearer_still():
    front = typed()
    cost = [promise_of(front, {"*": 0.1}, confidence).point.flops_ratio for confidence in (0.6, 0.95, 0.9999)]
    assert select_point(front, max_drop=0.1).flops_ratio <= cost[0] <= cost[1] <= cost[2]
    assert cost[0] < cost[2]


def test_the_order_is_that_of_the_calibration_rows():
    front = make_front()
    order = sequence_of(typed(front))
    assert [p.flops_ratio for p in order] == sorted((p.flops_ratio for p in order), reverse=True)
    assert all(p.schedule.stages for p in order)
    for point in front["points"]:
        point["validation"]["flops_ratio"] = 0.5
    assert [p.trial for p in sequence_of(typed(front))] == [p.trial for p in order]


def test_an_anchor_is_promised_where_no_point_can_be():
    front = make_front()
    verdicts = front["study"]["verdicts"]["validation"]
    dearest = max(front["points"], key=lambda p: p["flops_ratio"])
    safer = {**dearest, "trial": 999, "name": "trial 999", "flops_ratio": 0.97}
    safer["schedule"] = {
        **dearest["schedule"],
        "stages": [{"layer": 1, "keep": {"ratio": 0.99}, "criterion": {"name": "diversity"}}],
    }
    front["anchors"] = [safer]
    verdicts["points"][Schedule.model_validate(safer["schedule"]).key] = verdicts["dense"]
    without = promise_of(typed({**front, "anchors": []}), {"*": 0.01}, 0.95)
    assert isinstance(without, Shortfall)
    found = promise_of(typed(front), {"*": 0.01}, 0.95)
    assert isinstance(found, Promise)
    assert found.point.trial == 999
    assert select_point(typed(front), trial=999).flops_ratio == 0.97
    assert [p.trial for p in sequence_of(typed(front))][1:] == [
        p.trial for p in sequence_of(typed({**front, "anchors": []}))
    ]


def test_what_was_not_measured_on_all_rows_ends_the_order():
    front = make_front()
    order = sequence_of(typed(front))
    del front["study"]["verdicts"]["validation"]["points"][order[2].schedule.key]
    assert [p.trial for p in sequence_of(typed(front))] == [p.trial for p in order[:2]]


def test_a_point_that_a_third_objective_brought_to_the_front_does_not_bar_the_way():
    front = make_front()
    order = sequence_of(typed(front))
    poor = next(p for p in front["points"] if p["trial"] == order[-1].trial)
    front["points"].append({**poor, "trial": 999, "flops_ratio": 0.99})
    assert [p.trial for p in sequence_of(typed(front))] == [p.trial for p in order]


def test_where_nothing_can_be_promised_the_rows_that_would_do_are_counted():
    front = typed()
    first = sequence_of(front)[0]
    found = promise_of(front, {"*": 0.002}, 0.99)
    assert isinstance(found, Shortfall)
    assert found.nearest is first
    assert found.task is None
    assert found.more is None or found.more > 100
    by_task = promise_of(front, {"*": 0.5, "digit_of": 0.03}, 0.95)
    assert isinstance(by_task, Shortfall)
    assert by_task.task == "digit_of"
    assert by_task.most > 0.03
    drop = first.validation.tasks["digit_of"].drop
    assert by_task.lost == pytest.approx(drop)
    hopeless = promise_of(front, {"*": 0.0}, 0.95)
    assert isinstance(hopeless, Shortfall)
    assert hopeless.more is None


def test_a_study_that_was_not_judged_by_accuracy_cannot_be_promised():
    front = make_front()
    front["study"]["objectives"] = ["flops", "kl"]
    with pytest.raises(StudyError, match="about accuracy, and this study is judged by KL"):
        promise_of(typed(front), {"*": 0.02}, 0.95)
    assert claim_of(typed(front), Wish.of(typed(front), max_drop=0.25)).risk is None


@pytest.mark.parametrize("selector", [{"max_drop": 0.03}, {"max_flops": 0.42}, {"max_kv": 0.45}])
def test_the_claim_of_an_estimate_is_corrected_upwards(selector):
    front = typed()
    claim = claim_of(front, Wish.of(front, **selector))
    assert claim.point is select_point(front, **selector)
    assert claim.measured == pytest.approx(claim.point.validation.drop)
    assert 0 < claim.drop - claim.measured < 0.02
    assert (claim.risk is None) == ("max_drop" not in selector)


def test_verify_compares_with_the_corrected_claim():
    front = typed()
    claim = claim_of(front, Wish.of(front, max_drop=0.03))
    schedule = exported(front, claim)
    drop, allowed = claimed_by(schedule, 0.01)
    assert drop == claim.drop
    assert allowed == pytest.approx(1.96 * np.hypot(claim.point.validation.drop_se, 0.01))
    low, high = schedule.evidence["drop_ci"]
    assert low < drop < high
    assert schedule.key == claim.point.schedule.key
    notes = schedule.evidence["export"]
    assert notes["kind"] == "estimate"
    assert notes["max_drop"] == {"*": 0.03}
    assert notes["data_digest"] == "decade"
    assert notes["rows"] == claim.point.validation.samples
    assert 0 < notes["risk"] < 1


def test_a_trial_that_was_named_is_claimed_as_measured():
    front = typed()
    claim = claim_of(front, Wish.of(front, trial=2))
    assert claim.drop == claim.measured
    assert exported(front, claim).evidence["drop"] == claim.point.validation.drop
    assert exported(front, claim).evidence["export"]["trial"] == 2


def test_a_front_without_points_promises_nothing():
    front = make_front()
    front["points"] = [p for p in front["points"] if not p["schedule"]["stages"]]
    with pytest.raises(NoPointError, match="no pruned point was measured"):
        claim_of(typed(front), Wish.of(typed(front), max_drop=0.02, confidence=0.95))
