from __future__ import annotations

import json

import pytest
from support.fronts import make_front, typed

from autoprune.errors import StudyError
from autoprune.report.export import NoPointError, select_point


def drops(front, task=None):
    """Trial, drop and FLOPs of each pruned point, from the raw figures."""
    dense = front["dense"]["validation"]
    for p in front["points"]:
        part, whole = p["validation"], dense
        if task:
            part, whole = part["tasks"][task], whole["tasks"][task]
        if p["schedule"]["stages"]:
            yield p["trial"], whole["accuracy"] - part["accuracy"], p["validation"]["flops_ratio"]


@pytest.mark.parametrize(("bound", "task"), [(0.02, None), (0.06, None), (0.12, "where"), (0.04, "count")])
def test_max_drop_takes_the_cheapest_point_that_qualifies(bound, task):
    front = make_front()
    within = [(flops, trial) for trial, drop, flops in drops(front, task) if drop <= bound]
    asked = {task: bound} if task else bound
    assert select_point(typed(front), max_drop=asked).trial == min(within)[1]


def test_the_default_is_one_point_of_accuracy():
    front = make_front()
    assert select_point(typed(front)).trial == select_point(typed(front), max_drop=0.01).trial


def test_a_point_that_loses_exactly_the_bound_qualifies():
    front = make_front()
    trial, drop, _ = next((t, d, f) for t, d, f in drops(front) if d > 0)
    front["points"] = [p for p in front["points"] if p["trial"] == trial]
    assert select_point(typed(front), max_drop=drop).trial == trial


def test_max_flops_takes_the_best_point_within_the_budget():
    front = make_front()
    within = [(drop, trial) for trial, drop, flops in drops(front) if flops <= 0.42]
    assert select_point(typed(front), max_flops=0.42).trial == min(within)[1]


def test_bounds_of_several_tasks_hold_together():
    front = make_front()
    asked = {"*": 0.06, "where": 0.2, "count": 0.04}
    within = [{t for t, drop, _ in drops(front, None if k == "*" else k) if drop <= b} for k, b in asked.items()]
    both = [(flops, trial) for trial, _, flops in drops(front) if all(trial in kept for kept in within)]
    assert select_point(typed(front), max_drop=asked).trial == min(both)[1]
    front["points"] = [p for p in front["points"] if p["validation"]["drop"] > 0.02]
    with pytest.raises(NoPointError, match=r"0\.001 in accuracy and 0 in accuracy of where; the nearest is"):
        select_point(typed(front), max_drop={"*": 0.001, "where": 0.0})


def test_max_kv_and_max_latency_take_the_best_point_within_the_budget():
    front = make_front()
    pruned = {p["trial"]: p for p in front["points"] if p["schedule"]["stages"]}
    lost = {trial: drop for trial, drop, _ in drops(front)}
    small = [(lost[t], t) for t, p in pruned.items() if p["validation"]["kv_ratio"] <= 0.45]
    assert select_point(typed(front), max_kv=0.45).trial == min(small)[1]
    fast = [(lost[t], t) for t, p in pruned.items() if p["latency"] and p["latency"]["prefill_ms"] <= 15]
    assert select_point(typed(front), max_latency_ms=15).trial == min(fast)[1]
    timed = min(fast)[1]
    pruned[timed]["latency"] = None
    assert select_point(typed(front), max_latency_ms=15).trial != timed


def test_drops_are_read_from_validation_not_from_calibration():
    front = make_front()
    for point in front["points"]:
        point["accuracy"] = 0.0
    assert select_point(typed(front), max_drop=0.02).trial == select_point(typed(make_front()), max_drop=0.02).trial


def test_a_point_without_validation_is_compared_on_calibration():
    front = make_front()
    front["dense"]["accuracy"] = 0.9
    point = front["points"][3] | {"accuracy": 0.895, "validation": None}
    front["points"] = [point]
    assert select_point(typed(front), max_drop=0.006).trial == point["trial"]
    with pytest.raises(NoPointError):
        select_point(typed(front), max_drop=0.004)


@pytest.mark.parametrize("number", ["points", "baselines"])
def test_a_trial_can_be_named_on_the_front_and_among_the_presets(number):
    front = make_front()
    wanted = front[number][0]["trial"]
    assert select_point(typed(front), trial=wanted).trial == wanted


def test_nothing_qualifies_names_the_nearest():
    front = make_front()
    front["points"] = [p for p in front["points"] if p["validation"]["drop"] > 0.01]
    nearest = min(drops(front), key=lambda item: item[1])[0]
    with pytest.raises(NoPointError, match=rf"the nearest is trial {nearest}\b.*by `trial` {nearest}\b"):
        select_point(typed(front), max_drop=0.0)
    with pytest.raises(NoPointError, match=r"the nearest is trial \d+ at 0\.\d+"):
        select_point(typed(front), max_flops=0.01)
    with pytest.raises(NoPointError, match=r"ms of prefill.*; the nearest is trial \d+ at \d+"):
        select_point(typed(front), max_latency_ms=0.5)
    with pytest.raises(NoPointError, match="of the dense KV cache; the nearest is"):
        select_point(typed(front), max_kv=0.01)
    with pytest.raises(NoPointError, match="the nearest number"):
        select_point(typed(front), trial=10_000)


@pytest.mark.parametrize(
    "selector",
    [
        {"max_drop": 2.0},
        {"max_drop": -0.1},
        {"max_drop": float("nan")},
        {"max_flops": 0.0},
        {"max_flops": 40.0},
        {"max_drop": 0.1, "max_flops": 0.5},
        {"max_drop": {"whre": 0.1}},
        {"max_kv": 1.5},
        {"max_latency_ms": 0.0},
        {"max_latency_ms": float("inf")},
        {"max_kv": 0.5, "max_latency_ms": 20.0},
        {"max_drop": 0.1, "confidence": 0.5},
        {"max_drop": 0.1, "confidence": 1.0},
        {"max_flops": 0.5, "confidence": 0.95},
        {"trial": 3, "confidence": 0.95},
    ],
)
def test_a_selector_out_of_range_is_refused(selector):
    with pytest.raises(StudyError):
        select_point(typed(make_front()), **selector)


def test_the_bound_is_on_the_quality_that_was_searched():
    front = make_front()
    front["study"]["objectives"] = ["flops", "kl"]
    front["dense"]["validation"]["kl"] = 0.0
    cheap = select_point(typed(front), max_drop=0.25)
    fitting = [p for p in front["points"] if p["schedule"]["stages"] and p["validation"]["kl"] <= 0.25]
    assert cheap.trial == min(fitting, key=lambda p: p["validation"]["flops_ratio"])["trial"]


def test_the_exported_schedule_says_which_model_and_on_what_evidence():
    front = make_front()
    point = select_point(typed(front), max_drop=0.03)
    schedule = point.schedule
    assert [s.layer for s in schedule.stages] == [s.layer for s in point.schedule.stages]
    assert schedule.model is not None
    assert schedule.model.num_layers == front["model"]["num_layers"]
    for key in ("drop", "drop_ci", "drop_se", "accuracy"):
        assert json.loads(json.dumps(schedule.evidence[key])) == json.loads(point.validation.model_dump_json())[key]
