"""A PostgreSQL server for the tests of this folder, where its programs are installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.postgres import Postgres, postgres_programs, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    with running_postgres(programs) as server:
        yield server
