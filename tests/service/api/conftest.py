"""The api on both databases, and a study that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from support.studies import write_study

from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings


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
