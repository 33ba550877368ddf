"""The ledger and the study's tables: one suite on every database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fake_backend
from support.postgres import Postgres
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended

from autoprune import presets
from autoprune.errors import StorageError
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.driver import run_study
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.storage import Database
from autoprune.search.workers.protocol import Event

KEY = DataKey("model", "data", "1", "calibration")
FASTV = presets.fastv()


def results(start: int, stop: int, schedule: Schedule = FASTV) -> list[SampleResult]:
    return [fake_backend.sample("calibration", schedule, i) for i in range(start, stop)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    database = Database(url, lambda event: None)
    yield Ledger(database)
    database.close()


def test_results_come_back_as_they_were(ledger: Ledger) -> None:
    assert ledger.results(KEY, FASTV) == []
    ledger.add(KEY, FASTV, 0, results(0, 16))
    ledger.add(KEY, FASTV, 16, results(16, 32))
    assert ledger.results(KEY, FASTV) == results(0, 32)


def test_pieces_count_up_to_the_first_gap(ledger: Ledger) -> None:
    schedule = presets.fastv(keep=0.25)
    ledger.add(KEY, schedule, 16, results(16, 32, schedule))
    assert ledger.results(KEY, schedule) == []
    ledger.add(KEY, schedule, 0, results(0, 16, schedule))
    assert ledger.results(KEY, schedule) == results(0, 32, schedule)
    ledger.add(KEY, schedule, 0, results(0, 64, schedule))
    assert ledger.results(KEY, schedule) == results(0, 64, schedule)


def test_adding_twice_keeps_the_first(ledger: Ledger) -> None:
    schedule = presets.fastv(keep=0.125)
    ledger.add(KEY, schedule, 0, results(0, 16, schedule))
    ledger.add(KEY, schedule, 0, results(0, 16, FASTV))
    assert ledger.results(KEY, schedule) == results(0, 16, schedule)


@pytest.mark.parametrize("field", ["model_fingerprint", "data_digest", "metric_version", "split"])
def test_results_are_found_only_under_what_they_depend_on(ledger: Ledger, field: str) -> None:
    schedule = presets.vtw(3)
    ledger.add(KEY, schedule, 0, results(0, 16, schedule))
    other: Any = {**KEY.__dict__, field: "other"}
    assert ledger.results(DataKey(**other), schedule) == []
    assert ledger.results(KEY, presets.vtw(4)) == []


def test_the_same_pruning_shares_its_results(ledger: Ledger) -> None:
    """Names and evidence do not matter, only what a schedule does."""
    schedule = presets.vtw(5)
    ledger.add(KEY, schedule, 0, results(0, 16, schedule))
    plain = Schedule(stages=schedule.stages, evidence={"anything": 1})
    assert ledger.results(KEY, plain) == results(0, 16, schedule)


def test_a_study_runs_and_resumes_on_every_database(url: str, tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, name=f"study of {tmp_path.name}", search={"trials": 12}, storage=url)
    run_study(spec, backend=BACKEND)
    longer = tiny_spec(tmp_path, name=spec.name, search={"trials": 26}, storage=url)
    outcome = run_study(longer, backend=BACKEND)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 26
    assert_all_ended(longer)


def test_a_study_waits_for_a_database_that_goes_away(postgres: Postgres, tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, name=f"study of {tmp_path.name}", search={"trials": 26}, storage=postgres.url)
    events: list[Event] = []
    back: list[threading.Thread] = []

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "trial" and event.done == 8 and not back:
            postgres.stop()
            back.append(threading.Thread(target=_start_later, args=(postgres,)))
            back[0].start()

    outcome = run_study(spec, on_event=listen, backend=BACKEND)
    back[0].join()
    assert any("the database is away" in e.message for e in events)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 26
    assert_all_ended(spec)


def test_patience_ends(tmp_path: Path, postgres: Postgres) -> None:
    database = Database(postgres.url, lambda event: None, patience_s=0.2)
    ledger = Ledger(database)
    postgres.stop()
    try:
        with pytest.raises(StorageError, match="stayed away") as raised:
            ledger.results(KEY, FASTV)
        assert "\n" not in str(raised.value)
    finally:
        postgres.start()
        database.close()


def _start_later(server: Postgres) -> None:
    time.sleep(1.0)
    server.start()
