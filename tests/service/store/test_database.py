"""The tables of the service: made, migrated after a copy, and left alone where a newer release wrote them."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from support.postgres import Postgres

from autoprune.errors import StorageError
from autoprune.service.settings import PREFIX
from autoprune.service.store import database
from autoprune.service.store.database import (
    VERSION_TABLE,
    ensure_schema,
    migration_config,
    open_database,
    open_engine,
    revision_of,
    upgrade,
)
from autoprune.service.store.jobs import Jobs
from autoprune.service.store.tables import METADATA


def at_revision(engine: Engine, revision: str) -> None:
    with migration_config(engine) as (config, _):
        command.upgrade(config, revision)


def test_the_migrations_make_the_tables_that_the_code_knows(engine: Engine) -> None:
    with engine.connect() as connection:
        options = {"include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables}
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, **options})
        assert compare_metadata(context, METADATA) == []
    assert {"autoprune_evaluations", "autoprune_attempts"} <= set(inspect(engine).get_table_names())


def test_again_changes_nothing(engine: Engine) -> None:
    Jobs(engine).submit("study", "a", {})
    assert ensure_schema(engine) is None
    upgrade(engine)
    assert len(Jobs(engine).page("study", "queued")) == 1


def test_an_older_file_is_migrated_after_a_copy(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/service.db")
    at_revision(engine, "0001")
    copy = ensure_schema(engine)
    assert copy is not None
    with engine.connect() as now, open_engine(f"sqlite:///{copy}").connect() as before:
        assert (revision_of(before), inspect(before).has_table("autoprune_jobs")) == ("0001", False)
        assert inspect(now).has_table("autoprune_jobs")


def test_a_migration_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/service.db")
    at_revision(engine, "0001")

    upgraded = command.upgrade

    def broken(config: Config, revision: str) -> None:
        upgraded(config, "0002")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("autoprune.service.store.database.command.upgrade", broken)
        with pytest.raises(OSError, match="No space"):
            ensure_schema(engine)
    with engine.connect() as now:
        assert (revision_of(now), inspect(now).has_table("autoprune_jobs")) == ("0001", False)
    ensure_schema(engine)
    assert len(list(tmp_path.glob("*.backup"))) == 2  # none replaces another


def test_an_older_server_waits_for_its_operator(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("a SQLite file is migrated, see above")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0001'"))
        METADATA.drop_all(connection)
    with pytest.raises(StorageError, match="autoprune db upgrade"):
        ensure_schema(engine)
    upgrade(engine)
    assert ensure_schema(engine) is None


def test_a_newer_database_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for change in (ensure_schema, upgrade):
        with pytest.raises(StorageError, match="newer release"):
            change(engine)


@pytest.mark.parametrize("opened", ["the api", "a command"])
def test_a_copy_is_told_once_on_stderr(tmp_path: Path, opened: str) -> None:
    at_revision(open_engine(f"sqlite:///{tmp_path}/service.db"), "0001")
    code = f"""
import os, sys
os.environ["{PREFIX}FOLDER"] = {str(tmp_path)!r}
from autoprune.service.settings import Settings
if {opened!r} == "the api":
    from autoprune.service.api.app import create_app
    create_app(Settings.read())
else:
    from autoprune.cli.app import run
    run(["token", "list", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    (copy,) = tmp_path.glob("*.backup")
    assert done.stderr.count(str(copy)) == 1
    assert str(copy) not in done.stdout


@pytest.mark.timeout(60)
def test_a_server_that_never_answers_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database._LIVENESS, "connect_timeout", 2)  # the least that libpq knows
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StorageError, match="timeout"):
        open_engine(f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/nothing")


def test_a_server_that_is_gone_is_found_out_unless_the_url_says_otherwise(postgres: Postgres) -> None:
    for query, idle in (("", "10"), ("?keepalives_idle=99", "99")):
        engine = open_engine(postgres.url + query)
        with engine.connect() as connection:
            given = connection.connection.driver_connection.info.get_parameters()
        engine.dispose()
        wanted = {name: str(value) for name, value in database._LIVENESS.items()} | {"keepalives_idle": idle}
        assert wanted.items() <= given.items()
        assert sum(database._LIVENESS[name] for name in ("keepalives_idle", "connect_timeout")) <= 30  # a lease


@pytest.mark.parametrize("url", ["nonsense-with-a-secret", "mysql://me:secret@host/name"])
def test_a_url_of_no_database_is_told_without_its_password(url: str) -> None:
    with pytest.raises(StorageError, match="no URL of") as told:
        open_engine(url)
    assert "secret" not in str(told.value)


def test_a_database_that_cannot_be_opened_is_told_without_its_password() -> None:
    with pytest.raises(StorageError, match="cannot be opened") as told:
        open_engine("postgresql+psycopg://somebody:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(told.value)


def test_a_file_that_another_program_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.1)
    file = tmp_path / "service.db"
    open_database(f"sqlite:///{file}").dispose()
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="cannot be opened: database is locked"):
            open_database(f"sqlite:///{file}")
