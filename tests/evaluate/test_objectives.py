"""The objective table: one row for each objective, and no second list of names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import autoprune
from autoprune.evaluate.objectives import COSTS, FIGURES, NATS, OBJECTIVES, QUALITIES, SHARE, TABLE, time_ratio
from autoprune.evaluate.results import Quality, SampleResult, Summary

PACKAGE = Path(autoprune.__file__).parent
NAMES = {row.name for row in TABLE} | {row.figure for row in FIGURES}
SAMPLES = [
    SampleResult(
        index=i, id=str(i), task=None, group=str(i), correct=float(i % 2), agreement=float(i > 0), kl=i / 10, text="",
        decided=True, flops=50 + i, flops_dense=100, flops_end_to_end=150, flops_end_to_end_dense=200 + i, kv_bytes=10,
        kv_bytes_dense=40,
    )
    for i in range(10)
]  # fmt: skip
VALUES = [
    ("flops", 545 / 1000),
    ("flops_end_to_end", 1500 / 2045),
    ("kv_bytes", 0.25),
    ("accuracy", 0.5),
    ("agreement", 0.9),
    ("kl", 0.45),
    ("kl_p90", 0.81),
]
ROOMS = ("evaluate", "search", "report", "cli")
OWN_MEASURES = {  # analyses: curves and grids with measures of their own
    "cli/ablate.py",
    "cli/fitprune.py",
    "cli/flow_table.py",
    "report/ablation_page.py",
    "report/sweep_plot.py",
    "cli/remote.py",  # reads a key of a reply, which the api declares
}
SAME_WORD = {"latency"}  # also a verb of a task, and the key of a point that holds its times


@pytest.mark.parametrize(("name", "value"), VALUES, ids=[name for name, _ in VALUES])
def test_a_figure_is_the_aggregate_of_its_samples(name, value):
    row = next(row for row in TABLE if row.name == name)
    assert row.of(SAMPLES) == pytest.approx(value)


def test_every_row_has_its_test_row_above_and_its_field_in_a_summary():
    assert [row.name for row in FIGURES] == [name for name, _ in VALUES]
    fields = [name for name in Summary.model_fields if name in NAMES]
    assert fields == [row.figure for row in FIGURES]
    assert {row.figure for row in FIGURES if row.kind == "quality" and row.searched} <= set(Quality.model_fields)


def test_times_are_no_figure():
    (timed,) = [row for row in TABLE if not row.figure]
    with pytest.raises(ValueError, match="timed"):
        timed.of(SAMPLES)
    assert time_ratio({"prefill_ms": 5.0, "prefill_dense_ms": 20.0}) == 0.25


def test_names_are_unique_and_split_into_costs_and_qualities():
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert COSTS == ("flops", "latency", "kv_bytes")
    assert QUALITIES == ("accuracy", "agreement", "kl")
    assert set(OBJECTIVES) == {*COSTS, *QUALITIES}


@pytest.mark.parametrize(("name", "lost"), [("accuracy", 0.25), ("kl", -0.25)])
def test_a_loss_is_positive_where_the_pruned_model_is_worse(name, lost):
    assert OBJECTIVES[name].lost(dense=0.75, pruned=0.5) == lost


def test_units_write_values_and_differences():
    assert SHARE.value(0.3456) == "34.6 %"
    assert SHARE.value(0.3456, 0) == "35 %"
    assert SHARE.value(None) == SHARE.change(None) == "–"
    assert SHARE.loss(-0.012) == "−1.2 points"
    assert SHARE.change(-0.0001) == "0.0"
    assert NATS.value(0.12345) == "0.123"
    assert NATS.loss(0.02) == "0.020 nats"


def test_no_second_list_of_names():
    """Another objective is its field in results.py and one row: nowhere else do the names stand as literals."""
    found = []
    for path in sorted(p for room in ROOMS for p in (PACKAGE / room).rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place == "evaluate/objectives.py" or place in OWN_MEASURES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.value if isinstance(node, ast.Constant) else None
            if isinstance(name, str) and name in NAMES - SAME_WORD:
                found.append(f"{place}:{node.lineno} {name}")
    assert not found, f"take these from the objective table: {found}"
