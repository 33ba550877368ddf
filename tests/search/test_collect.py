"""What is measured after the search: which points, arms and rows, and at what cost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec

from autoprune import presets
from autoprune.schedule import Schedule
from autoprune.search.driver import RunOutcome, run_study
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Event

HELD_OUT = fake_backend.SIZES["validation"]


def run(spec: StudySpec, events: list[Event] | None = None) -> RunOutcome:
    return run_study(spec, on_event=(events if events is not None else []).append, backend=BACKEND)


def measured(folder: Path, split: str) -> Counter[str]:
    """Rows that each schedule was measured on, by its key."""
    rows: Counter[str] = Counter()
    for line in (folder / "tasks.log").read_text().splitlines():
        _, verb, *rest = line.split()
        if verb == split:
            for key in rest[1:]:
                rows[key] += len(rest[0].split(","))
    return rows


def timed(folder: Path) -> set[str]:
    lines = [line.split() for line in (folder / "tasks.log").read_text().splitlines()]
    return {key for _, verb, *keys in lines if verb == "latency" for key in keys}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunOutcome]:
    folder = tmp_path_factory.mktemp("study")
    return folder, run(tiny_spec(folder, search={"trials": 40}))


Finished = tuple[Path, RunOutcome]


def test_only_points_near_dense_are_measured_further(finished: Finished) -> None:
    folder, outcome = finished
    known = {b.trial for b in outcome.front.baselines} | {v.by for v in outcome.front.study.presets}
    points = [p for p in outcome.front.points if p.trial not in known]
    near = [p for p in points if (p.drop or 0) <= 0.15]
    far = [p for p in points if (p.drop or 0) > 0.15]
    assert near
    assert far
    held_out = measured(folder, "validation")
    assert {held_out[p.schedule.key] for p in near} == {HELD_OUT}
    assert {held_out[p.schedule.key] for p in far} == {0}
    assert {p.schedule.key for p in near} <= timed(folder)
    assert not {p.schedule.key for p in far} & timed(folder)
    assert {c.of for c in outcome.front.controls} <= {p.trial for p in outcome.front.points if not p.left_out}
    for point in far:
        assert point.validation is None
        assert point.left_out is not None
        assert f"loses {100 * (point.drop or 0):.1f} points" in point.left_out
        assert "search.within" in point.left_out
    assert all(p.left_out is None and p.latency for p in near)


def test_safer_schedules_than_the_dearest_point_are_measured_for_promises(finished: Finished) -> None:
    folder, outcome = finished
    front, held_out = outcome.front, measured(folder, "validation")
    dearest = max((p for p in front.points if p.validation), key=lambda p: p.flops_ratio)
    assert 1 <= len(front.anchors or ()) <= 2
    for anchor in front.anchors or ():
        assert anchor.flops_ratio > dearest.flops_ratio
        assert anchor.kl < dearest.kl
        assert held_out[anchor.schedule.key] == HELD_OUT
        assert anchor.schedule.key in front.study.verdicts["validation"].points
        assert anchor.trial not in {p.trial for p in front.points}


def test_every_preset_is_measured_on_all_held_out_rows(finished: Finished) -> None:
    folder, outcome = finished
    assert max(b.drop or 0 for b in outcome.front.baselines) > 0.15, "one of them is far from dense"
    held_out = measured(folder, "validation")
    for name in ("vtw", "fastv", "himap", "pyramiddrop"):
        assert held_out[presets.for_depth(name, fake_backend.LAYERS).key] == HELD_OUT
    assert all(b.validation and b.left_out is None for b in outcome.front.baselines)


def test_a_preset_far_from_dense_is_compared_with_a_point_as_cheap(tmp_path: Path) -> None:
    """That point is measured on held-out rows although it is far from dense, too; but not timed, and without arms."""
    space = {"layers": [2, 3], "keep": [0.0, 0.3], "criteria": ["text"]}
    spec = tiny_spec(tmp_path, space=space, baselines=["vtw", "random"], search={"trials": 12, "within": 0.01})
    front = run(spec).front
    rivals = {p.trial: p for p in front.points}
    compared = [rivals[v.by] for v in front.study.presets if v.by is not None]
    assert compared
    assert all(p.validation and (p.drop or 0) > 0.01 for p in compared)
    assert not any(p.latency or p.trial in {c.of for c in front.controls} for p in compared)


def test_an_arm_is_measured_on_as_many_rows_as_its_decision_takes(finished: Finished) -> None:
    folder, outcome = finished
    held_out = measured(folder, "validation")
    early = [c for c in outcome.front.controls if c.samples == 64]
    late = [c for c in outcome.front.controls if c.samples == HELD_OUT]
    assert any(c.mark and c.mark.decided for c in early)
    assert late
    for arm in outcome.front.controls:
        assert arm.mark is not None
        assert arm.mark.samples == arm.samples == held_out[arm.schedule.key]
        assert arm.measured_on == "validation"
    assert all(c.validation is None for c in early), "a part of the rows never stands for all"
    assert all(c.validation and c.validation.samples == HELD_OUT for c in late)
    assert measured(folder, "calibration").keys().isdisjoint(c.schedule.key for c in outcome.front.controls)


def test_held_out_rows_are_prepared_once(finished: Finished) -> None:
    """A task holds all schedules of its rows, so that a worker computes their dense pass once."""
    folder, _ = finished
    lines = [line.split() for line in (folder / "tasks.log").read_text().splitlines()]
    rows = [row for _, verb, *rest in lines if verb == "validation" for row in rest[0].split(",")]
    assert sorted(map(int, rows)) == list(range(HELD_OUT))


def test_costs_are_the_rows_that_were_run(finished: Finished) -> None:
    folder, outcome = finished
    costs = outcome.front.study.costs
    held_out, searched = measured(folder, "validation"), measured(folder, "calibration")
    dense, arms = Schedule().key, {c.schedule.key for c in outcome.front.controls}
    assert costs["dense"].row_forwards == held_out.pop(dense) + searched.pop(dense)
    assert costs["dense"].dense_equivalents == costs["dense"].row_forwards
    assert costs["search"].row_forwards == searched.total()
    assert costs["controls"].row_forwards == sum(held_out[key] for key in arms)
    assert costs["validation"].row_forwards == held_out.total() - costs["controls"].row_forwards
    assert costs["latency"].row_forwards == 16 * 15 * (len(timed(folder)) + 1)
    spent = sum(fake_backend.cost(c.schedule) * held_out[c.schedule.key] for c in outcome.front.controls)
    assert costs["controls"].dense_equivalents == pytest.approx(spent, rel=1e-3)


def test_a_study_that_searches_for_times_counts_them(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, objectives=["latency", "accuracy"], search={"trials": 12})
    front = run(spec).front
    lines = [line.split() for line in (tmp_path / "tasks.log").read_text().splitlines()]
    arms = sum(len(keys) + 1 for _, verb, *keys in lines if verb == "latency")
    assert arms > 12
    assert front.study.costs["latency"].row_forwards == 16 * 15 * arms


def test_a_resumed_study_reports_the_cost_of_all_its_runs(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 16})
    once = run(spec).front
    again = run(spec).front
    assert again.study.costs == once.study.costs
    assert again.controls == once.controls


def test_an_interrupted_validation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def listen(event: Event) -> None:
        if event.kind == "progress" and (tmp_path / "tasks.log").read_text().count("validation") == 1:
            raise KeyboardInterrupt

    spec = tiny_spec(tmp_path / "whole", search={"trials": 24})
    whole = run(spec).front
    spec = tiny_spec(tmp_path, search={"trials": 24})
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, on_event=listen, backend=BACKEND)
    stopped = json.loads((tmp_path / "run/front.json").read_text())
    assert all(point["validation"] is None for point in stopped["points"])
    resumed = run(spec).front
    assert [c.mark for c in resumed.controls] == [c.mark for c in whole.controls]
    assert resumed.study.costs == whole.study.costs


def test_a_failing_arm_does_not_keep_the_others_from_being_measured(tmp_path: Path, finished: Finished) -> None:
    poor = finished[1].front.controls[0]
    (tmp_path / "failing").write_text(poor.schedule.key)
    events: list[Event] = []
    front = run(tiny_spec(tmp_path, search={"trials": 40}), events).front
    assert any("non-finite logits" in e.message for e in events if e.kind == "warning")
    assert [c.name for c in front.controls] == [
        c.name for c in finished[1].front.controls if c.schedule.key != poor.schedule.key
    ]
    assert all(p.validation for p in front.points if not p.left_out)


def test_where_nothing_is_near_dense_the_nearest_is_measured(tmp_path: Path) -> None:
    space = {"layers": [1], "keep": [0.05, 0.1], "criteria": ["visual"], "max_stages": 1}
    limits: dict[str, Any] = {"trials": 12, "within": 0.001}
    front = run(tiny_spec(tmp_path, space=space, baselines=[], search=limits)).front
    losses = {p.trial: p.drop or 0 for p in front.points}
    assert min(losses.values()) > 0.001
    assert [p.trial for p in front.points if p.validation] == [min(losses, key=lambda trial: losses[trial])]


def test_without_held_out_rows_arms_are_compared_on_the_calibration_rows(tmp_path: Path) -> None:
    data = {"calibration": {"path": "calibration.jsonl"}}
    front = run(tiny_spec(tmp_path, data=data, search={"trials": 40})).front
    assert front.controls
    assert {c.measured_on for c in front.controls} == {"calibration"}
    assert all(c.mark and c.validation is None for c in front.controls)
    assert front.study.costs["validation"].row_forwards == 0
    assert front.study.costs["controls"].row_forwards > 0
    assert all(p.left_out is None for p in front.points)
