"""Names on the hub: nobody is asked for a path, and a hub that does not answer is waited for a few seconds only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from huggingface_hub import constants
from support.hub import TOKEN, fake_hub

from autoprune import sources
from autoprune.data.samples import load_samples
from autoprune.errors import DataError, ModelError
from autoprune.models.config import read_config
from autoprune.models.loading import load_model

LOOK_UPS = [(read_config, ModelError), (load_model, ModelError), (load_samples, DataError)]


@pytest.mark.parametrize(
    "given",
    [
        "./model",
        "../model",
        "/no/model",
        "~/model",
        "a/b/c",
        "rows.jsonl",
        "here/model",
        "config.json",
        "x" * 300 + "/y/z",
    ],
)
def test_a_path_is_not_looked_for_on_the_hub(given, tmp_path, monkeypatch):
    def asked():
        raise AssertionError("the hub is asked")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "_answers", asked)
    for look_up, error in LOOK_UPS:
        with pytest.raises(error, match="no such f"):
            look_up(given)


@pytest.mark.parametrize("given", ["gpt2", "org/name", "org/name-1.5", "hf://datasets/org/name"])
def test_a_name_is_no_path(given):
    assert not sources.is_path(given)


def test_a_name_that_no_folder_can_have_is_looked_for_in_the_cache(monkeypatch):
    monkeypatch.setattr(sources, "_answers", lambda: False)
    for look_up, error in LOOK_UPS:
        with pytest.raises(error):
            look_up("x" * 300 + "/y")


PROGRAM = """
import time
from autoprune.data.samples import load_samples
from autoprune.errors import AutopruneError
from autoprune.models.config import read_config
from autoprune.models.loading import load_model
for look_up in (read_config, load_model, load_samples):
    start = time.monotonic()
    try:
        look_up("org/name")
    except AutopruneError as error:
        print(time.monotonic() - start, error)
"""


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
def test_a_hub_that_does_not_answer_costs_seconds_and_one_line(silent, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as hub:
        port = hub.getsockname()[1]
        if not silent:
            hub.close()
        environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path)}
        environment["HF_HUB_OFFLINE"] = "0"
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert "Retry" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(LOOK_UPS)
    for line in lines:
        assert "org/name" in line
        assert float(line.split()[0]) < sources.ANSWER_S + 2


def test_what_the_cache_holds_needs_no_hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sources, "_answers", lambda: False)
    with sources.hub_or_cache("org/name"):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with fake_hub(tmp_path / "cache", monkeypatch) as hub:
        hub.repos["org/name"] = [{}, {"a.json": b"{}"}]
        yield hub


def test_a_file_of_the_hub_and_what_the_cache_knows_of_a_commit(hub, monkeypatch):
    file = sources.hub_file("org/name", "a.json")
    assert file.read_bytes() == b"{}"
    commit = file.parent.name
    with pytest.raises(sources.RepositoryError, match=r"does not hold b\.json"):
        sources.hub_file("org/name", "b.json", commit)
    before = len(hub.asked)
    assert sources.hub_file("org/name", "a.json", commit) == file
    with pytest.raises(sources.RepositoryError, match=r"does not hold b\.json"):
        sources.hub_file("org/name", "b.json", commit)
    assert len(hub.asked) == before
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sources.hub_file("org/name", "a.json") == file


@pytest.mark.parametrize(
    ("repo", "revision", "said"),
    [
        ("org/other", None, "none on the hub, or no access"),
        ("org/name", "branch", "no such revision"),
        ("org/name", None, r"does not hold b\.json"),
        ("org//name", None, "no name of a repository"),
    ],
)
def test_what_the_hub_does_not_have(hub, repo, revision, said):
    with pytest.raises(sources.RepositoryError, match=said) as told:
        sources.hub_file(repo, "b.json", revision)
    assert TOKEN not in str(told.value)


def test_a_hub_that_is_not_there_is_told(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.asked)
    with pytest.raises(sources.HubError, match="not in the local cache"):
        sources.hub_file("org/name", "a.json")
    assert len(hub.asked) == before


def test_the_commit_that_the_cache_holds_of_a_branch(hub, tmp_path):
    hub.repos["org/name"].append({"config.json": b"{}"})
    assert sources.cached_commit("org/name") is None
    commit = sources.hub_file("org/name", "config.json").parent.name
    asked = len(hub.asked)
    assert sources.cached_commit("org/name") == sources.cached_commit("org/name", commit) == commit
    assert sources.cached_commit("org/name", "branch") is None
    assert sources.cached_commit(str(tmp_path)) is sources.cached_commit("a b") is None
    assert len(hub.asked) == asked
