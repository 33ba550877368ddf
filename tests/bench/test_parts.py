"""The parts of the benchmark on their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoprune import presets
from autoprune.bench import choose_schedules, workload
from autoprune.bench.variants import evenly_chosen, keeping_all
from autoprune.bench.workload import measure_memory
from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule

CPU = torch.device("cpu")


def test_the_peak_of_a_call_not_what_is_left_of_it() -> None:
    def call() -> None:
        for _ in range(3):  # one after the other, not at once
            torch.ones(64 << 20, dtype=torch.uint8)

    small, large = measure_memory(CPU, lambda: None), measure_memory(CPU, call)
    if small.growth_bytes is None or large.growth_bytes is None:
        pytest.skip("this system keeps no peak that can be reset")
    assert small.growth_bytes < 16 << 20
    assert 60 << 20 < large.growth_bytes < 100 << 20
    assert large.peak_bytes is not None
    assert large.peak_bytes > large.growth_bytes


def test_nothing_is_claimed_where_no_peak_can_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_CLEAR", Path("/nowhere/clear_refs"))
    ran = []
    found = measure_memory(CPU, lambda: ran.append(1))
    assert ran == [1]
    assert found.peak_bytes is found.growth_bytes is None
    assert "not measured" in found.how


def test_variants_differ_in_one_thing() -> None:
    schedule = presets.himap((1, 3), (0.5, 0.25))
    even, full = evenly_chosen(schedule, [8, 4]), keeping_all(schedule, 16)
    assert [(s.layer, s.keep.count, s.criterion.name) for s in even.stages] == [(1, 8, "uniform"), (3, 4, "uniform")]
    assert [(s.layer, s.keep.count, s.criterion) for s in full.stages] == [
        (s.layer, 16, s.criterion) for s in schedule.stages
    ]
    withdrawn = presets.vtw(2)
    assert evenly_chosen(withdrawn, [0]).stages == withdrawn.stages
    assert [s.keep.ratio for s in keeping_all(withdrawn, 16).stages] == [1.0]


def test_variants_keep_every_other_option_of_the_schedule() -> None:
    """Merging and renumbering take time with any survivors: in the variant too, they do not pass for scoring."""
    stage = {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "text"}, "merge": "mean"}
    schedule = Schedule.model_validate({"stages": [stage], "positions": "compact"})
    for variant in (evenly_chosen(schedule, [8]), keeping_all(schedule, 16)):
        assert variant.positions == "compact"
        assert [s.merge for s in variant.stages] == ["mean"]


def test_schedules_by_file_by_name_and_by_default(tmp_path: Path) -> None:
    presets.vtw(5).save(tmp_path / "mine.json")
    mine = str(tmp_path / "mine.json")
    assert {name: [s.layer for s in got.stages] for name, got in choose_schedules([mine, "fastv"], 16).items()} == {
        mine: [5],
        "fastv": [1],
    }
    assert list(choose_schedules([], 32)) == ["vtw", "fastv", "himap", "pyramiddrop"]
    assert list(choose_schedules([], 2)) == ["vtw", "fastv"]  # too shallow for several stages


@pytest.mark.parametrize(("names", "said"), [(["fastvv"], "preset"), (["vtw", "vtw"], "twice"), (["himap"], "needs")])
def test_schedules_that_are_not_there(names: list[str], said: str) -> None:
    with pytest.raises(ScheduleError, match=said):
        choose_schedules(names, 2)
