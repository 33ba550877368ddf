from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import optuna
import pytest

pytest.importorskip("optuna_dashboard", reason="the extra dashboard is not installed")


@pytest.fixture
def study(study_folder):
    """Name of a study whose trials are in the database of its folder."""
    name = json.loads((study_folder / "front.json").read_text())["study"]["name"]
    optuna.create_study(storage=f"sqlite:///{study_folder / 'study.db'}", study_name=name)
    return name


def test_the_command_starts_a_server_that_answers(study_folder, study):
    # A job in the background ignores Ctrl-C, and so would its child.
    heeding = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heeding + "runpy.run_module('autoprune', run_name='__main__')"
    command = [sys.executable, "-c", code, "dashboard", str(study_folder), "--port", "0"]
    environment = {key: value for key, value in os.environ.items() if key != "AUTOPRUNE_STORAGE"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        try:
            line = next(line for line in running.stderr if "http://" in line)
            url = re.search(r"http://[\w.:]+", line)[0]
            assert study in urllib.request.urlopen(f"{url}/api/studies").read().decode()
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130


def test_a_missing_package_is_named_with_what_to_install(cli, study_folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna_dashboard" else find(name, *more)
    )
    refused = cli("dashboard", study_folder)
    assert refused.code == 1
    assert "optuna_dashboard" in refused.err
    assert "[dashboard]" in refused.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "needs RUN or --storage"),
        (("no-such-run",), "no such folder"),
        (("--storage", "sqlite:///no/such.db"), "no such database"),
        (("--storage", "nonsense"), "is no database URL"),
        (("--port", "70000"), "--port"),
    ],
)
def test_bad_input(cli, argv, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused = cli("dashboard", *argv)
    assert refused.code == 2
    assert said in refused.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
@pytest.mark.usefixtures("study")
def test_an_address_of_another_machine_is_about_the_host(cli, study_folder, host):
    refused = cli("dashboard", study_folder, "--host", host, "--port", "0")
    assert refused.code == 2
    assert "--host: is no address of this machine" in refused.err


def test_looking_into_an_empty_database_makes_no_tables(cli, tmp_path):
    (tmp_path / "empty.db").touch()
    refused = cli("dashboard", "--storage", f"sqlite:///{tmp_path / 'empty.db'}")
    assert refused.code == 2
    assert "no tables of Optuna" in refused.err
    assert (tmp_path / "empty.db").read_bytes() == b""
