"""What counts as agreement of two engines, from answers alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoprune.doctor.outcomes import Outcome
from autoprune.engines.vllm.comparison.agreement import (
    ComparedRuns,
    disagreement,
    far_rows,
    log_probabilities,
    planned_lengths,
    same_answers,
    stages_fired,
    tokens_per_layer,
)
from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.schedule import Schedule

SCHEDULE = Schedule.model_validate(
    {
        "stages": [
            {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "last"}},
            {"layer": 3, "keep": {"count": 2}, "criterion": {"name": "uniform"}},
        ]
    }
)
DENSE = EngineAnswer((5, 6), ({5: -0.1, 7: -2.0, 8: -3.0}, {6: -0.2, 9: -1.5, 8: -4.0}), (14,) * 4, 10)
PRUNED = EngineAnswer((5, 6), ({5: -0.3, 7: -1.5, 8: -3.5}, {6: -0.4, 9: -1.2, 8: -4.0}), (14, 9, 9, 6), 10)


def moved(answer: EngineAnswer, by: float) -> EngineAnswer:
    return replace(answer, logprobs=tuple({t: p + by for t, p in step.items()} for step in answer.logprobs))


def runs(**changed: Any) -> ComparedRuns:
    """Two rows on which the engines agree."""
    made = {"dense": ((DENSE, DENSE),) * 2, "pruned": ((PRUNED, PRUNED),) * 2, **changed}
    return ComparedRuns(SCHEDULE, **made)


def test_the_plan_of_a_row_is_arithmetic():
    assert planned_lengths(SCHEDULE, DENSE) == (14, 9, 9, 6)
    assert planned_lengths(SCHEDULE, replace(DENSE, n_visual=0)) == (14,) * 4
    assert planned_lengths(SCHEDULE, replace(DENSE, n_visual=3, lengths=(7,) * 4)) == (7, 6, 6, 6)


@pytest.mark.parametrize("check", [stages_fired, tokens_per_layer, same_answers, log_probabilities])
def test_engines_that_agree_pass(check: Callable[[ComparedRuns], Outcome]):
    assert check(runs()).status == "pass"


def test_a_stage_that_did_not_fire_in_one_row():
    silent = replace(PRUNED, lengths=(14, 9, 9, 9))
    outcome = stages_fired(runs(pruned=((PRUNED, PRUNED), (PRUNED, silent))))
    assert (outcome.status, "before layers [3]" in outcome.reason) == ("fail", True)


def test_a_schedule_that_vllm_does_not_serve_at_all():
    idle = runs(pruned=((PRUNED, PRUNED), (DENSE, DENSE)))
    assert stages_fired(idle).status == "fail"
    assert tokens_per_layer(idle).status == "fail"


def test_rows_with_too_few_visual_tokens_show_nothing():
    few = replace(DENSE, lengths=(6,) * 4, n_visual=2)
    left = replace(few, lengths=(6, 5, 5, 5))
    assert stages_fired(runs(dense=((few,),) * 2, pruned=((left,),) * 2)).status == "not applicable"


def test_a_layer_with_other_tokens_is_named_with_its_engine():
    other = replace(PRUNED, lengths=(14, 9, 8, 6))
    assert "row 1 in vLLM" in tokens_per_layer(runs(pruned=((PRUNED, PRUNED), (PRUNED, other)))).reason
    assert "row 0 in transformers" in tokens_per_layer(runs(pruned=((other, PRUNED), (PRUNED, PRUNED)))).reason


def test_answers_may_differ_as_far_as_those_of_the_dense_model():
    def parted(answer: EngineAnswer) -> EngineAnswer:
        return replace(answer, ids=(5, 9))

    one_pruned = {"pruned": ((PRUNED, PRUNED), (PRUNED, parted(PRUNED)))}
    assert same_answers(runs(**one_pruned)).status == "fail"
    assert same_answers(runs(**one_pruned, half=True)).status == "pass"
    assert same_answers(runs(**one_pruned, dense=((DENSE, DENSE), (DENSE, parted(DENSE))))).status == "pass"


@pytest.mark.parametrize(
    ("dense", "pruned", "half", "status"),
    [
        (0, 1, True, "pass"),
        (2, 3, True, "pass"),
        (0, 2, True, "not applicable"),
        (1, 3, True, "not applicable"),
        (0, 5, True, "not applicable"),  # 0.6 ** 5 = 0.08
        (0, 6, True, "fail"),
        (3, 14, True, "fail"),
        (1, 3, False, "fail"),
    ],
)
def test_too_few_rows_cannot_tell_whether_half_precision_disagrees_more_often(dense, pruned, half, status):
    def parted(answer: EngineAnswer, count: int) -> list[EngineAnswer]:
        return [replace(answer, ids=(5, 9))] * count + [answer] * (20 - count)

    made = runs(dense=([DENSE] * 20, parted(DENSE, dense)), pruned=([PRUNED] * 20, parted(PRUNED, pruned)), half=half)
    assert same_answers(made).status == status


@pytest.mark.parametrize(
    ("dense_by", "pruned_by", "half", "status"),
    [
        (0.0, 0.9e-4, False, "pass"),
        (0.0, 1.1e-4, False, "fail"),
        (1e-4, 1.4e-4, False, "pass"),
        (1e-4, 1.6e-4, False, "fail"),
        (0.02, 0.029, True, "pass"),
        (0.02, 0.031, True, "fail"),
        (0.0, float("nan"), False, "fail"),
        (2.0, 2.0, False, "not applicable"),
    ],
)
def test_log_probabilities_may_differ_as_far_as_those_of_the_dense_model(dense_by, pruned_by, half, status):
    dense, pruned = moved(DENSE, dense_by), moved(PRUNED, pruned_by)
    found = log_probabilities(
        runs(dense=((DENSE, DENSE), (DENSE, dense)), pruned=((PRUNED,) * 2, (PRUNED, pruned)), half=half)
    )
    assert found.status == status


@pytest.mark.parametrize(
    ("by", "rounding", "status"),
    [(3e-4, 1.5e-4, "pass"), (3e-4, 9e-5, "fail"), (3e-4, None, "fail"), (math.nan, 1.0, "fail")],
)
def test_a_row_may_differ_as_far_as_rounding_moves_it(by, rounding, status):
    both = (PRUNED,) * 4, (PRUNED, PRUNED, moved(PRUNED, by), PRUNED)
    made = runs(dense=((DENSE,) * 4,) * 2, pruned=both, rounding={} if rounding is None else {2: rounding})
    assert far_rows(made) == [2]
    found = log_probabilities(made)
    assert found.status == status
    assert ("rows 2 (3.0e-04)" in found.reason) == (status == "pass")
    two = replace(made, pruned=(both[0], (moved(PRUNED, 3e-4), *both[1][1:])))
    assert log_probabilities(two).status == "fail"  # another row is as far apart
    assert far_rows(replace(made, half=True)) == []


def test_a_difference_is_counted_up_to_where_answers_part_and_of_unknown_tokens_at_least():
    parted = replace(moved(PRUNED, 0.25), ids=(4, 6))
    assert disagreement([PRUNED], [parted]).largest == pytest.approx(0.25)
    later = replace(PRUNED, ids=(4, 6), logprobs=(PRUNED.logprobs[0], {6: -9.0}))
    assert disagreement([PRUNED], [later]).largest == 0
    unknown = replace(PRUNED, logprobs=({5: -0.3, 11: -2.0}, PRUNED.logprobs[1]))
    assert disagreement([PRUNED], [unknown]).largest == pytest.approx(1.5)
