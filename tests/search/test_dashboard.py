"""Optuna's dashboard: the note that leads to the report, and requests that change nothing."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import optuna
import pytest

pytest.importorskip("optuna_dashboard", reason="the extra dashboard is not installed")
from optuna_dashboard import save_note
from optuna_dashboard._note import get_note_from_system_attrs

from autoprune.search.dashboard import attach_note, dashboard_server, note


@pytest.fixture
def storage(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(storage=storage, study_name="digits", directions=["minimize", "maximize"])
    return storage


def body(storage, name="digits"):
    study = optuna.load_study(study_name=name, storage=storage)
    return get_note_from_system_attrs(storage.get_study_system_attrs(study._study_id), None)["body"]


@contextmanager
def served(storage, report=None, host="127.0.0.1"):
    with dashboard_server(storage, report, host, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
        finally:
            server.shutdown()


def test_the_note_is_in_the_study_and_leads_to_the_report(storage, tmp_path):
    assert attach_note(storage, "digits", tmp_path)
    assert body(storage) == note("digits", tmp_path)
    assert (tmp_path / "report.html").as_uri() in body(storage)
    assert attach_note(storage, "digits", tmp_path / "elsewhere")  # a study that went on in another folder
    assert str(tmp_path / "elsewhere" / "report.html") in body(storage)


def test_a_long_path_is_a_note_in_pieces(storage, tmp_path):
    far = tmp_path.joinpath(*["é" * 100] * 6)
    assert attach_note(storage, "digits", far)
    assert body(storage) == note("digits", far)
    assert len(body(storage)) > 2045
    assert attach_note(storage, "digits", tmp_path)
    assert body(storage) == note("digits", tmp_path)


def test_a_note_of_the_users_stays(storage, tmp_path):
    save_note(optuna.load_study(study_name="digits", storage=storage), "do not touch")
    assert not attach_note(storage, "digits", tmp_path)
    assert body(storage) == "do not touch"


def test_a_note_that_the_user_went_on_with_stays(storage, tmp_path):
    attach_note(storage, "digits", tmp_path)
    longer = f"{body(storage)}\n\nTrial 7 looks odd."
    save_note(optuna.load_study(study_name="digits", storage=storage), longer)
    assert not attach_note(storage, "digits", tmp_path / "elsewhere")
    assert body(storage) == longer


@pytest.mark.parametrize(
    ("name", "code"), [("evil.example", 421), ("localhost", 200), ("[::1]", 200), ("", 421), ("[", 421)]
)
def test_a_page_from_elsewhere_does_not_reach_it_by_a_name_of_its_own(storage, name, code):
    with served(storage) as url:
        request = urllib.request.Request(f"{url}/api/studies", headers={"Host": f"{name}:8080"})
        try:
            found = urllib.request.urlopen(request).status
        except urllib.error.HTTPError as refused:
            found = refused.code
    assert found == code


def test_it_listens_on_addresses_of_the_newer_protocol(storage):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    with served(storage, host="::1") as url:
        assert "digits" in urllib.request.urlopen(f"{url}/api/studies").read().decode()


def test_the_server_shows_studies_note_and_report(storage, tmp_path):
    attach_note(storage, "digits", tmp_path)
    (tmp_path / "report.html").write_text("<h1>the report</h1>")
    with served(storage, tmp_path / "report.html") as url:
        studies = json.load(urllib.request.urlopen(f"{url}/api/studies"))
        assert "digits" in json.dumps(studies)
        assert b"the report" in urllib.request.urlopen(f"{url}/report.html").read()


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT"])
def test_nothing_can_be_changed(storage, method):
    with served(storage) as url:
        request = urllib.request.Request(f"{url}/api/studies/1", data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
    assert refused.value.code == 405
    assert [study.study_name for study in storage.get_all_studies()] == ["digits"]
