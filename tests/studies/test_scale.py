"""The study of scale in small: the real driver on simulated workers, the real api with a queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from queueing import queue
from searching import Row, Watch, database_size, search, study


def test_a_search_on_simulated_workers_is_summed_up(tmp_path: Path) -> None:
    spec, shown = study(tmp_path, 40, 4, "gp", None), list[Row]()
    outcome = search(spec, 0.01, Watch(20, database_size(spec), shown.append))
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 40
    assert len(outcome.front.points) > 3, "the law has a front"
    assert [row.trials for row in shown] == [20, 40]
    assert shown[1].ask > 0
    assert shown[1].database > shown[0].database > 0


@pytest.mark.slow
def test_a_queue_is_taken_while_somebody_reads(tmp_path: Path) -> None:
    taken = queue(tmp_path, None, studies=5, runners=2)
    assert [len(taken[name]) for name in ("submit", "claim", "list")] == [5, 5, 50]
