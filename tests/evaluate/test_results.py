"""Aggregation of per-sample results."""

from __future__ import annotations

import json

import pytest

from autoprune.evaluate.results import SampleResult, compare, summarise


def result(index, correct=1.0, task="a", flops=50, kl=0.0, **other):
    fields = {
        "index": index, "id": str(index), "task": task, "group": f"g{index}", "correct": correct, "agreement": 1.0,
        "kl": kl, "text": "x", "decided": True, "flops": flops, "flops_dense": 100, "flops_end_to_end": flops + 100,
        "flops_end_to_end_dense": 200, "kv_bytes": 10, "kv_bytes_dense": 40,
    }  # fmt: skip
    return SampleResult(**{**fields, **other})


def test_ratios_are_sums_over_sums():
    big = result(1, flops=900, flops_dense=1000, flops_end_to_end=1000, flops_end_to_end_dense=1200)
    summary = summarise([result(0), big])
    assert summary.flops_ratio == pytest.approx(950 / 1100)
    assert summary.flops_ratio_end_to_end == pytest.approx(1150 / 1400)
    assert summary.kv_ratio == 0.25


def test_the_keys_are_those_of_a_point():
    results = [result(i, correct=float(i % 2), task="ab"[i % 2], kl=i / 10) for i in range(10)]
    point = json.loads(summarise(results).model_dump_json(exclude_none=True))
    assert set(point) == {
        "flops_ratio", "flops_ratio_end_to_end", "kv_ratio", "accuracy", "accuracy_ci", "agreement", "kl", "kl_p90",
        "samples", "tasks",
    }  # fmt: skip
    assert point["accuracy"] == 0.5
    assert point["kl"] == pytest.approx(0.45)
    assert point["kl_p90"] == pytest.approx(0.81)
    assert set(point["tasks"]) == {"a", "b"}
    assert set(point["tasks"]["a"]) == {"accuracy", "accuracy_ci", "agreement", "kl", "samples"}
    assert point["tasks"]["a"]["accuracy"] == 0.0
    compared = json.loads(summarise(results, results).model_dump_json())
    for part in (compared, *compared["tasks"].values()):
        assert part["drop"] == 0.0
        assert part["drop_ci"][0] < 0 < part["drop_ci"][1]
        assert part["drop_se"] > 0


def test_samples_without_a_task_count_only_in_the_total():
    summary = summarise([result(0, task=None), result(1)])
    assert summary.samples == 2
    assert {name: task.samples for name, task in summary.tasks.items()} == {"a": 1}


def test_the_drop_is_paired_by_index():
    dense = [result(i, correct=1.0, task="ab"[i % 2]) for i in range(8)]
    pruned = [result(i, correct=float(i % 2), task="ab"[i % 2]) for i in (3, 2, 1, 0)]
    drop = compare(dense, pruned)
    assert drop.overall.mean == 0.5
    assert drop.tasks["a"].mean == 1.0
    assert drop.tasks["b"].mean == 0.0
    assert drop.overall.low < 0.5 < drop.overall.high
    assert drop.overall.se > 0
    summary = summarise(pruned, dense)
    assert (summary.drop, summary.drop_se) == (drop.overall.mean, drop.overall.se)
    assert summary.tasks["a"].drop == 1.0
    with pytest.raises(ValueError, match="without a dense result"):
        compare(dense[:2], pruned)


def test_nothing_cannot_be_summarised():
    with pytest.raises(ValueError, match="no results"):
        summarise([])
