"""`autoprune token` and `autoprune db` on a database of a service."""

from __future__ import annotations

import re
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


def test_tokens_are_listed_with_their_ends_and_revoked(cli):
    for line in (("me", "--role", "admin"), ("guest", "--days", 2), ("gone", "--days", 1e-9), ("lost",)):
        assert cli("token", "create", *line).code == 0
    revoked = cli("token", "revoke", "lost")
    assert (revoked.code, revoked.err) == (0, "revoked: lost\n")
    listed = cli("token", "list").out
    for name, state in (("me", "valid"), ("guest", r"until \d{4}-\d\d-\d\d \d\d:\d\d UTC"), ("gone", "expired")):
        assert re.search(rf"^{name} .* {state} *$", listed, re.MULTILINE), listed
    assert re.search(r"^lost .* revoked *$", listed, re.MULTILINE)
    assert {one["name"] for one in cli("token", "list", "--json").json["tokens"]} == {"me", "guest", "gone", "lost"}
    again = cli("token", "revoke", "lost")
    assert (again.code, "token list" in again.err) == (2, True)


def test_a_token_ends_by_the_clock_of_the_database(cli, monkeypatch):
    assert cli("token", "create", "gone", "--days", 1e-9).code == 0
    monkeypatch.setattr("time.time", lambda: 0.0)  # as on a machine whose clock is wrong
    assert "expired" in cli("token", "list").out


@pytest.mark.parametrize(("option", "value"), [("--port", "70000"), ("--runners", "-1")])
def test_options_of_serve_are_named_in_errors(cli, option, value):
    refused = cli("serve", option, value)
    assert refused.code == 2
    assert refused.err.startswith(f"error: {option}: ")


def test_the_name_of_a_token_is_given_once(cli):
    assert cli("token", "create", "me", "--json").json["role"] == "read"
    cli("token", "revoke", "me", "-q")
    refused = cli("token", "create", "me")
    assert refused.code == 2
    assert "choose another name: the audit log keeps it" in refused.err
