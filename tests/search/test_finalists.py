"""Which trials are measured further, on trials of made-up figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from support import fake_backend
from support.studies import tiny_spec

from autoprune import presets
from autoprune.schedule import Schedule
from autoprune.search.finalists import front_trials, held_out_schedules, left_out_because, near_dense
from autoprune.search.study import DENSE, Study

OBJECTIVES: dict[str, Any] = {"objectives": ["flops", "accuracy"]}
DENSE_RESULTS = [fake_backend.sample("calibration", DENSE, row) for row in range(128)]
BEST = sum(r.correct for r in DENSE_RESULTS) / 128


def trial(number: int, flops: float, loss: float, schedule: Schedule | None = None) -> optuna.trial.FrozenTrial:
    schedule = schedule or presets.uniform(1 + number % 6, 0.1 + number / 100)
    figures = {"flops_ratio": flops, "kv_ratio": flops, "accuracy": BEST - loss}
    known = {"schedule": schedule.to_json_dict(), "key": schedule.key, "name": "", "origin": "sampler"}
    made = optuna.trial.create_trial(
        values=[flops, BEST - loss], user_attrs={"candidate": known, "measured": {**figures, "latency": None}}
    )
    made.number = number
    return made


def study(folder: Path, **sections: Any) -> Study:
    spec = tiny_spec(folder, **sections)
    return Study(spec, fake_backend.read_inputs(spec), fake_backend.FakeEngine(folder).facts())


def numbers(trials: list[optuna.trial.FrozenTrial]) -> list[int]:
    return [t.number for t in trials]


TRIALS = [trial(0, 0.9, 0.0), trial(1, 0.5, 0.05), trial(2, 0.3, 0.15), trial(3, 0.2, 0.16), trial(4, 0.6, 0.06)]


def test_points_within_the_limit_are_near_dense(tmp_path: Path) -> None:
    spec = study(tmp_path).spec
    assert numbers(front_trials(spec, TRIALS)) == [0, 1, 2, 3]
    assert numbers(near_dense(spec, DENSE_RESULTS, TRIALS)) == [0, 1, 2], "the limit itself belongs to it"
    assert "loses 16.0 points" in left_out_because(spec, DENSE_RESULTS, TRIALS[3])


@pytest.mark.parametrize(("within", "near"), [(0.04, [0]), (0.16, [0, 1, 2, 3])])
def test_the_limit_is_the_study_s(tmp_path: Path, within: float, near: list[int]) -> None:
    spec = study(tmp_path, search={"within": within}).spec
    assert numbers(near_dense(spec, DENSE_RESULTS, TRIALS)) == near


def test_the_nearest_is_measured_where_none_is_near(tmp_path: Path) -> None:
    spec = study(tmp_path).spec
    assert numbers(near_dense(spec, DENSE_RESULTS, [trial(0, 0.3, 0.4), trial(1, 0.2, 0.5)])) == [0]
    assert near_dense(spec, DENSE_RESULTS, []) == []


def test_a_baseline_brings_the_best_point_that_costs_no_more(tmp_path: Path) -> None:
    here = study(tmp_path, baselines=["vtw"])
    vtw = presets.for_depth("vtw", fake_backend.LAYERS)
    trials = [*TRIALS, trial(5, 0.1, 0.5), trial(6, 0.25, 0.7, vtw)]
    keys = [s.key for s in held_out_schedules(here, DENSE_RESULTS, trials)]
    known = {t.user_attrs["candidate"]["key"]: t.number for t in trials}
    assert [known.get(key) for key in keys] == [None, 0, 1, 2, 6, 3], "3 costs 0.2 and is better than 5"
    assert keys[0] == DENSE.key
