"""`autoprune token` and `autoprune db` on a database of a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.service.settings import PREFIX


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(f"{PREFIX}FOLDER", str(tmp_path / "service"))
    return tmp_path / "service"


def test_the_tables_are_brought_to_this_release(cli, folder):
    first = cli("db", "upgrade")
    assert (first.code, first.out, first.err) == (0, "", "the database is up to date\n")
    assert (folder / "service.db").is_file()
    assert cli("db", "upgrade", "--quiet").err == ""
    assert cli("db", "upgrade", "--json").json == {"upgraded": True}
