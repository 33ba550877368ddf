from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.fronts import make_front, save_front, typed

from autoprune.errors import StudyError
from autoprune.report.uses import FILE, record_use


def test_the_same_promise_again_is_one_and_others_share_the_certainty(tmp_path):
    front = typed()
    assert record_use(tmp_path, front, {"*": 0.02}, 0.95, 4).together == pytest.approx(0.95)
    again = record_use(tmp_path, front, {"*": 0.02}, 0.95, 4)
    assert (again.promises, again.together) == (1, pytest.approx(0.95))
    stricter = record_use(tmp_path, front, {"*": 0.02}, 0.99, 5)
    assert (stricter.promises, stricter.together) == (1, pytest.approx(0.95))
    other = record_use(tmp_path, front, {"*": 0.05}, 0.95, 6)
    assert (other.promises, other.together) == (2, pytest.approx(0.90))
    by_task = record_use(tmp_path, front, {"*": 0.05, "where": 0.1}, 0.9, None)
    assert (by_task.promises, by_task.together) == (3, pytest.approx(0.80))
    assert len(json.loads((tmp_path / FILE).read_text())["uses"]) == 5


def test_another_front_on_the_same_rows_counts_and_other_rows_do_not(tmp_path):
    record_use(tmp_path, typed(), {"*": 0.02}, 0.95, 4)
    shorter = make_front()
    shorter["points"] = shorter["points"][1:]
    assert record_use(tmp_path, typed(shorter), {"*": 0.02}, 0.95, 4).promises == 2
    elsewhere = make_front()
    elsewhere["study"]["data"]["validation"]["digest"] = "others"
    assert record_use(tmp_path, typed(elsewhere), {"*": 0.02}, 0.95, 4).promises == 1


def test_exports_at_the_same_time_are_all_recorded(tmp_path):
    front = typed()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record_use(tmp_path, front, {"*": n / 100}, 0.95, None), range(1, 17)))
    assert len(json.loads((tmp_path / FILE).read_text())["uses"]) == 16


def test_a_record_that_cannot_be_read_or_written_is_an_error_with_a_remedy(tmp_path):
    folder = save_front(tmp_path / "run")
    (folder / FILE).write_text("nonsense")
    with pytest.raises(StudyError, match="is no record of promises"):
        record_use(folder, typed(), {"*": 0.02}, 0.95, None)
    with pytest.raises(StudyError, match="cannot be recorded"):
        record_use(folder / FILE, typed(), {"*": 0.02}, 0.95, None)
