"""A whole study that is answered from a table: what the driver needs for a trial."""

from __future__ import annotations

import dataclasses
import functools
from contextlib import suppress
from pathlib import Path

import overhead
import pytest
import table_backend
from synthetic_table import synthetic_table
from workers import SearchEndedError

from autoprune.search.driver import run_study


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_study_is_answered_from_the_table_and_timed(sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = synthetic_table()
    monkeypatch.setattr(table_backend, "table", lambda: table)
    monkeypatch.setitem(overhead.GRIDS, "old", dataclasses.replace(overhead.GRIDS["old"], space=table.space))
    clock, search = overhead.Clock(), functools.partial(run_study, backend="table_backend")
    with suppress(SearchEndedError):
        search(overhead.study(30, sampler, tmp_path), on_event=clock.listen)
    assert len(clock.marks) >= 30
    wall, cpu = clock.milliseconds(5, 25)
    assert cpu > 0
    assert wall > 0
