"""Settings of the service: from variables and files, told by the names under which somebody wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.errors import StudyError
from autoprune.service.settings import PREFIX, Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(f"{PREFIX}FOLDER", str(tmp_path / "service"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROT", "8000", f"did you mean {PREFIX}PORT"),
        ("nonsense", "1", "unset it"),
        ("PORT", "70000", "must be at most 65535"),
        ("RUNNERS", "many", "must be a whole number"),
        ("RATE", "often", "such as 600/minute"),
        ("ROOTS", "", "at least 1"),
        ("ROOTS", "/no/such/folder", "is no folder"),
        ("SECRETS_DIR", "/no/such/folder", "is no folder"),
    ],
)
def test_a_variable_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(StudyError, match=said) as refused:
        Settings.read()
    assert refused.value.field == f"{PREFIX}{name}"


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}LEASE_S", "0")
    monkeypatch.setenv(f"{PREFIX}MOST_ROWS", "-1")
    with pytest.raises(StudyError, match=f"{PREFIX}LEASE_S.*{PREFIX}MOST_ROWS"):
        Settings.read()


def test_what_is_given_wins_and_is_told_by_its_own_name(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(f"{PREFIX}PORT", "99999")
    assert Settings.read(port=1234).port == 1234
    for given in ({"port": -1}, {"roots": (folder / "none",), "port": 1}):
        with pytest.raises(StudyError) as refused:
            Settings.read(**given)
        assert refused.value.field == next(iter(given))


def test_secrets_are_read_from_the_folder_that_is_named_now(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "secrets").mkdir()
    (folder / "secrets" / f"{PREFIX.lower()}database").write_text("postgresql+psycopg://me:word@host/name")
    assert Settings.read().database is None
    monkeypatch.setenv(f"{PREFIX}SECRETS_DIR", str(folder / "secrets"))
    settings = Settings.read()
    assert settings.database_url == "postgresql+psycopg://me:word@host/name"
    assert "word" not in repr(settings)


def test_a_process_of_ours_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    settings = Settings.read(roots=(folder,), hub=("a/*", "b/c"), rate="5/second", port=4321, runners=0)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    read = Settings.read()
    assert read.model_dump(exclude={"database"}) == settings.model_dump(exclude={"database"})
    assert read.database_url == settings.database_url


def test_an_import_reads_no_variable_and_sets_no_log_up(folder: Path) -> None:
    code = (
        "import logging, autoprune.service.serving, autoprune.service.work.runner\n"
        "from autoprune.service.settings import Settings\n"
        "print(Settings.model_config.get('secrets_dir'), logging.getLogger('alembic').level, logging.root.handlers)"
    )
    environment = {**os.environ, f"{PREFIX}SECRETS_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout == "None 0 []\n", done.stderr
