from __future__ import annotations

import math

import pytest

from autoprune.data.samples import load_samples
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model
from autoprune.presets import himap
from autoprune.schedule import Schedule


@pytest.fixture(scope="session")
def measured(tiny, rows):
    """Share of correct answers of dense and of `schedule_file`, counted here."""
    loaded, data = load_model(tiny), load_samples(rows)
    schedules = (None, himap(layers=(1, 3), keep=(0.5, 0.25)))
    return [sum(r.correct for r in generate_and_score(loaded, data, s)) / len(data) for s in schedules]


def with_claim(path, **evidence):
    schedule = Schedule.load(path)
    Schedule(stages=schedule.stages, evidence=evidence).save(path)


def test_dense_beside_pruned_on_the_same_rows(cli, tiny, rows, schedule_file, measured):
    result = cli("verify", tiny, schedule_file, "--data", rows, "--json")
    assert result.code == 0, result.err
    found = result.json
    assert [found["accuracy_dense"], found["accuracy"]] == measured
    assert math.isclose(found["drop"], measured[0] - measured[1])
    assert 0 < found["flops_ratio"] < 1
    assert found["prefill_ms"] > 0
    assert found["prefill_dense_ms"] > 0
    assert found["samples"] == 12
    assert set(found["tasks"]) == {"t0", "t1"}
    assert found["holds"] is None


def test_a_claim_that_holds_and_one_that_does_not(cli, tiny, rows, schedule_file, measured):
    drop = measured[0] - measured[1]
    with_claim(schedule_file, drop=drop + 0.01, drop_se=0.02)
    held = cli("verify", tiny, schedule_file, "--data", rows, "--json")
    assert held.code == 0
    assert held.json["holds"] is True
    with_claim(schedule_file, drop=drop - 5.0, drop_se=0.0)
    broken = cli("verify", tiny, schedule_file, "--data", rows)
    assert broken.code == 1
    assert "DO NOT AGREE" in broken.out


def test_the_allowed_distance_is_that_of_two_independent_errors(cli, tiny, rows, schedule_file):
    with_claim(schedule_file, drop=0.0, drop_se=0.03)
    found = cli("verify", tiny, schedule_file, "--data", rows, "--json").json
    assert math.isclose(found["allowed"], 1.96 * math.sqrt(0.03**2 + found["drop_se"] ** 2))


def test_some_rows_only(cli, tiny, rows, schedule_file):
    assert cli("verify", tiny, schedule_file, "--data", rows, "--samples", "5", "--json").json["samples"] == 5


def test_an_adaptive_keep_costs_each_row_something_else(cli, tiny, rows, tmp_path):
    keeps = {"ratio": {"ratio": 0.5}, "mass": {"mass": 0.5}}
    found = {}
    for name, keep in keeps.items():
        path = tmp_path / f"{name}.json"
        stage = {"layer": 1, "keep": keep, "criterion": {"name": "attention", "rows": "last"}}
        Schedule(stages=[stage]).save(path)
        found[name] = cli("verify", tiny, path, "--data", rows, "--json").json["flops_quantiles"]
    spread = {name: q["max"] - q["p10"] for name, q in found.items()}
    assert spread["mass"] > 2 * spread["ratio"]
    for q in found.values():
        assert 0 < q["p10"] <= q["p50"] <= q["p90"] <= q["max"] < 1
    assert "80 % of rows" in cli("verify", tiny, path, "--data", rows, "--samples", 4).out
