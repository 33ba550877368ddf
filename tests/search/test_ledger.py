"""The ledger and the study's tables: one suite on every database."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import PendingRollbackError
from support import fake_backend
from support.postgres import Postgres
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended, ended_twice

from autoprune import presets
from autoprune.errors import StorageError, StudyError
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.driver import run_study
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.racing import race_order
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
    database = Database(url, lambda event: None, 60)
    yield Ledger(database)
    database.close()


def test_results_come_back_by_row(ledger: Ledger) -> None:
    assert ledger.results(KEY, FASTV) == {}
    ledger.add(KEY, FASTV, results(40, 56))
    ledger.add(KEY, FASTV, results(8, 16)[::-1])
    assert list(ledger.results(KEY, FASTV).items()) == [(r.index, r) for r in (*results(8, 16), *results(40, 56))]


def test_known_rows_keep_their_first_result(ledger: Ledger) -> None:
    schedule = presets.fastv(keep=0.125)
    ledger.add(KEY, schedule, results(0, 16, schedule))
    ledger.add(KEY, schedule, results(0, 32, FASTV))
    assert list(ledger.results(KEY, schedule).values()) == [*results(0, 16, schedule), *results(16, 32, FASTV)]


def test_a_database_from_before_rows_were_named_is_read_and_added_to(url: str, ledger: Ledger) -> None:
    """It holds pieces of the order of a race, numbered from 0, which may overlap; every result names its row."""
    schedule = presets.vtw(2)
    whole = results(0, 128, schedule)
    race = [whole[row] for row in race_order(128)]
    engine = create_engine(url)
    with engine.begin() as connection:
        for start, stop in ((0, 16), (16, 32), (0, 64)):
            columns = {name: [getattr(r, name) for r in race[start:stop]] for name in SampleResult.__dataclass_fields__}
            values = {"address": KEY.address(schedule), "start": start, "stop": stop, "results": json.dumps(columns)}
            names = ("model_fingerprint", "data_digest", "metric_version", "schedule_key", "split")
            values |= dict.fromkeys(names, "as it was") | {"created": 1.0}
            places = ", ".join(f":{name}" for name in values)
            insert = f"INSERT INTO autoprune_evaluations ({', '.join(values)}) VALUES ({places})"
            connection.execute(text(insert), values)
    engine.dispose()
    assert ledger.results(KEY, schedule) == {row: whole[row] for row in sorted(race_order(128)[:64])}
    ledger.add(KEY, schedule, whole)
    assert list(ledger.results(KEY, schedule).values()) == whole


@pytest.mark.parametrize("field", ["model_fingerprint", "data_digest", "metric_version", "split"])
def test_results_are_found_only_under_what_they_depend_on(ledger: Ledger, field: str) -> None:
    schedule = presets.vtw(3)
    ledger.add(KEY, schedule, results(0, 16, schedule))
    other: Any = {**KEY.__dict__, field: "other"}
    assert ledger.results(DataKey(**other), schedule) == {}
    assert ledger.results(KEY, presets.vtw(4)) == {}


def test_the_same_pruning_shares_its_results(ledger: Ledger) -> None:
    """Names and evidence do not matter, only what a schedule does."""
    schedule = presets.vtw(5)
    ledger.add(KEY, schedule, results(0, 16, schedule))
    plain = Schedule(stages=schedule.stages, evidence={"anything": 1})
    assert list(ledger.results(KEY, plain).values()) == results(0, 16, schedule)


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


@pytest.mark.slow
def test_a_study_outlives_a_server_that_is_restarted_at_twelve_moments(postgres: Postgres, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"name": f"study of {tmp_path.name}", "search": {"trials": 120}}
    (tmp_path / "slow").write_text("0.15")
    spec = tiny_spec(tmp_path, **sections, storage=postgres.url)
    moments, ended = random.Random(0), threading.Event()
    restarts: list[float] = []

    def restart() -> None:
        while len(restarts) < 12 and not ended.wait(moments.uniform(0.3, 2.0)):
            postgres.stop()
            time.sleep(moments.choice([0.0, 0.2, 0.8]))
            postgres.start()
            restarts.append(time.monotonic())

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        outcome = run_study(spec, backend=BACKEND)
    finally:
        ended.set()
        thread.join()
    assert len(restarts) == 12
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 120
    assert_all_ended(spec)
    assert not ended_twice(spec)


def test_studies_may_be_the_first_of_a_server_together(postgres: Postgres) -> None:
    url = postgres.new_database()
    ready = threading.Barrier(8)

    def begin(number: int) -> None:
        ready.wait()
        database = Database(url, lambda event: None, 60)
        Ledger(database).add(KEY, FASTV, results(8 * number, 8 * number + 8))
        database.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    database = Database(url, lambda event: None, 60)
    assert sorted(Ledger(database).results(KEY, FASTV)) == list(range(64))
    database.close()


def test_processes_that_share_a_file_write_each_result_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    databases = [Database(url, lambda event: None, 60) for _ in range(8)]
    ledgers = [Ledger(database) for database in databases]
    ready = threading.Barrier(8)

    def write(ledger: Ledger) -> None:
        ready.wait()
        for start in range(0, 80, 8):
            ledger.add(KEY, FASTV, results(start, start + 8))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, ledgers))
    with databases[0].engine.connect() as connection:
        packs = connection.exec_driver_sql("SELECT start, stop FROM autoprune_evaluations ORDER BY start").all()
    assert [tuple(pack) for pack in packs] == [(start, start + 8) for start in range(0, 80, 8)]
    for database in databases:
        database.close()


def test_one_driver_has_a_study_of_a_server(postgres: Postgres, tmp_path: Path) -> None:
    """Two hosts with the same path, and so with locks of their own, share the server alone."""
    name = f"study of {tmp_path.name}"
    first, second, other = (Database(postgres.url, lambda event: None, 60) for _ in range(3))
    with first.claimed(name):
        with pytest.raises(StudyError, match="another calibrate is running this study"), second.claimed(name):
            pass
        with other.claimed(f"not the {name}"):
            pass
        postgres.stop()
        postgres.start()
        time.sleep(1.1)
        Ledger(first).results(KEY, FASTV)  # the lock went with the server's sessions, and is taken again
        with pytest.raises(StudyError, match="another calibrate"), second.claimed(name):
            pass
    with second.claimed(name):
        pass
    for database in (first, second, other):
        database.close()


def test_nobody_waits_for_a_disk_that_is_full(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/study.db", lambda event: None, 60)

    def fill() -> None:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 100")
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS much (data)")
            connection.exec_driver_sql("INSERT INTO much VALUES (zeroblob(1000000))")

    with pytest.raises(StorageError, match="the database is full") as raised:
        database.patiently(fill)
    assert "make room" in str(raised.value.remedy)
    database.close()


def test_nobody_waits_for_a_file_that_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    database = Database(f"sqlite:///{file}", lambda event: None, 60)
    ledger = Ledger(database)
    for layer in range(1, 7):
        ledger.add(KEY, presets.vtw(layer), results(0, 128, presets.vtw(layer)))
    database.close()
    content = file.read_bytes()
    file.write_bytes(content[:4096] + random.Random(0).randbytes(len(content) - 4096))
    with pytest.raises((StorageError, StudyError), match=r"damaged|malformed") as raised:
        Ledger(Database(f"sqlite:///{file}", lambda event: None, 60)).results(KEY, FASTV)
    assert raised.value.remedy


def test_a_session_that_must_be_rolled_back_is_an_outage(tmp_path: Path) -> None:
    failures = [PendingRollbackError("rolled back due to a previous exception")]
    database = Database(f"sqlite:///{tmp_path}/study.db", lambda event: None, 60)

    def fail_once() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert database.patiently(fail_once) == "done"
    database.close()


def test_patience_ends(tmp_path: Path, postgres: Postgres) -> None:
    database = Database(postgres.url, lambda event: None, 0.2)
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
