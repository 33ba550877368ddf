"""The database goes away, is shut down, fills up or is damaged; two drivers want the same study."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from kinds import kind
from scene import Driver, Scene
from support.postgres import Postgres


@kind("PostgreSQL restarted", 0, database="postgresql")
def restarted(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.searching()
    server.stop()
    server.start()
    yield driver


@kind("PostgreSQL stopped for 20 s", 0, database="postgresql")
def stopped(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.searching()
    server.stop()
    time.sleep(20)
    server.start()
    yield driver


@kind("PostgreSQL stopped for longer than storage_wait", 1, database="postgresql", storage_wait=5)
def stopped_for_good(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.searching()
    server.stop()
    driver.end(60)
    server.start()
    yield driver


@kind("PostgreSQL stopped in the final measurements", 0, database="postgresql")
def stopped_finishing(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.finishing()
    server.stop()
    time.sleep(5)
    server.start()
    yield driver


@kind("connections ended by an administrator, three times", 0, database="postgresql")
def terminated(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.searching()
    for _ in range(3):
        _end_connections(server)
        time.sleep(0.7)
    yield driver


@kind("PostgreSQL has no connection left", 0, database="postgresql")
def no_connection(scene: Scene, server: Postgres) -> Iterator[Driver]:
    driver = scene.searching()
    with _admin(server) as connection:
        connection.execute("ALTER ROLE autoprune NOSUPERUSER CONNECTION LIMIT 0")
        _end_connections(server)
        time.sleep(8)
        connection.execute("ALTER ROLE autoprune SUPERUSER CONNECTION LIMIT -1")
    yield driver


@kind("two drivers of one study on PostgreSQL, two outputs", 2, database="postgresql")
def two_on_a_server(scene: Scene, server: Postgres) -> Iterator[Driver]:
    first = scene.searching()
    other = scene.folder / "other.yaml"
    other.write_text(scene.study.read_text().replace("output: run", "output: elsewhere"))
    yield scene.start(other)
    first.end(300)
    assert first.code == 0, first.err


@kind("two drivers of one study on one file", 2)
def two_on_a_file(scene: Scene) -> Iterator[Driver]:
    first = scene.searching()
    yield scene.start()
    first.end(300)
    assert first.code == 0, first.err


@kind("study.db: random bytes in its middle", 1, 2)
def damaged(scene: Scene) -> Iterator[Driver]:
    yield from _damaged(scene, _scramble)


@kind("study.db: no database any more", 1, 2)
def no_database(scene: Scene) -> Iterator[Driver]:
    yield from _damaged(scene, lambda file: file.write_bytes(b"\x9f\x03" * 50_000))


@kind("study.db: empty file", 0)
def emptied(scene: Scene) -> Iterator[Driver]:
    """Nothing can be lost that is not there; a new study begins."""
    scene.output.mkdir()
    (scene.output / "study.db").write_bytes(b"")
    yield scene.start()


def _damaged(scene: Scene, harm: object) -> Iterator[Driver]:
    scene.stopped()
    for file in scene.output.glob("study.db*"):
        shutil.copy(file, scene.folder / f"backup-{file.name}")
    harm(scene.output / "study.db")  # type: ignore[operator]
    yield scene.start()
    for file in scene.output.glob("study.db*"):
        file.unlink()
    for file in scene.folder.glob("backup-*"):
        shutil.copy(file, scene.output / file.name.removeprefix("backup-"))


def _scramble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(4096, len(content), 97):
        content[place] ^= 0xA5
    file.write_bytes(content)


def _admin(server: Postgres) -> psycopg.Connection:
    """A connection that the study does not know of."""
    url = server.url.replace("postgresql+psycopg://autoprune", "postgresql://keeper")
    try:
        return psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError:
        with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as first:
            first.execute("CREATE ROLE keeper SUPERUSER LOGIN")
        return psycopg.connect(url, autocommit=True)


def _end_connections(server: Postgres) -> None:
    with _admin(server) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'autoprune'")
