"""The service in tests: its databases, SQLite and a real PostgreSQL, its app on them, and a study that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.postgres import Postgres
from support.service import save_root
from support.studies import write_study

from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model and rows for it."""
    return save_root(tmp_path_factory.mktemp("root"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/service.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, url: str) -> Settings:
    return Settings(folder=tmp_path / "service", roots=(tmp_path / "data",), database=url, most_bytes=50_000)


@pytest.fixture
def client(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(settings, engine), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def study(settings: Settings) -> dict[str, Any]:
    file = write_study(settings.roots[0], output=None)
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded
