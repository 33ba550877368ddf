"""``autoprune remote`` against a service on a real socket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import yaml
from sqlalchemy import Engine
from support.codebooks import with_codebook
from support.fronts import make_front, save_front
from support.service import listening
from support.studies import write_study

from autoprune.cli.remote import _State
from autoprune.report.words import stage_words
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import bundled
from autoprune.search.workers.protocol import Event
from autoprune.service.api.app import create_app
from autoprune.service.client import Client, RemoteInputError
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import STATES, Jobs, State
from autoprune.service.store.tokens import Tokens


@dataclass
class Remote:
    """A service in this process whose runner is the test."""

    settings: Settings
    engine: Engine
    study: Path

    def ends(self, id: str, state: State, reason: str = "", *events: Event) -> None:
        """The study is run by somebody, and ends."""
        job = Jobs(self.engine).claim("a runner")
        assert job is not None
        assert job.id == id
        Events(self.engine).add(job, events)
        save_front(self.settings.output_of(id))
        Jobs(self.engine).finish(job, state, reason)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    settings = Settings(folder=tmp_path / "service", roots=(tmp_path / "data",))
    engine = open_database(settings.database_url)
    with listening(create_app(settings, engine)) as server:
        monkeypatch.setenv("AUTOPRUNE_SERVER", server)
        yield Remote(settings, engine, write_study(settings.roots[0], output=None))
    engine.dispose()


def test_a_study_from_its_submission_to_its_schedule(cli, remote, tmp_path):
    id = cli("remote", "submit", remote.study).out.strip()
    assert cli("remote", "status", id).out == f"tiny ({id}): queued\n"
    assert id in cli("remote", "list").out
    assert id not in cli("remote", "list", "--state", "done").out
    trial = {"trial": 1, "state": "COMPLETE", "name": "vtw", "values": [0.4, 0.9]}
    remote.ends(id, "done", "", Event("phase", "searching", 0, 9), Event("trial", "", 1, 9, trial))
    watched = cli("remote", "watch", id)
    assert watched.code == 0
    assert "searching" in watched.err
    assert watched.out == f"tiny ({id}): done\n"
    file = tmp_path / "schedule.json"
    taken = cli("remote", "schedule", id, "--max-drop", "0.5", "-o", file)
    assert taken.code == 0
    schedule = Schedule.load(file)
    assert schedule.evidence
    told = cli("export", remote.settings.output_of(id), "--max-drop", "0.5", "-o", tmp_path / "here.json")
    point, stage = told.out.splitlines()[0], stage_words(schedule.stages[0])
    assert "of the prefill FLOPs, loses" in point
    assert taken.out.splitlines()[0] == point
    assert f"  {stage}" in taken.out.splitlines()
    assert "exists" in cli("remote", "schedule", id, "-o", file).err
    alone = cli("remote", "schedule", id, "--max-drop", "0.5", "-o", "-")
    assert json.loads(alone.out)["format"] == "autoprune.schedule"
    assert point in alone.err
    told = cli("remote", "schedule", id, "-o", file, "--force", "--json").json
    assert (told["written"], told["schedule"]["format"]) == (str(file), "autoprune.schedule")
    assert {"trial", "name", "drop", "flops_ratio", "export"} <= told.keys()
    assert cli("remote", "schedule", id, "-o", "-", "--json").code == 2


def test_programs_get_one_object(cli, remote):
    id = cli("remote", "submit", remote.study, "--json").json["id"]
    assert cli("remote", "list", "--json").json["studies"][0]["id"] == id
    assert cli("remote", "status", id, "--json").json["state"] == "queued"
    assert cli("remote", "cancel", id, "--json").json["state"] == "cancelled"
    refused = cli("remote", "cancel", id, "--json")
    assert (refused.code, refused.json["error"]["value"]) == (2, id)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("phase", "reading data"), "reading data"),
        (Event("phase", "searching", 0, 9), "searching"),
        (Event("trial", "trial 3 COMPLETE", 4, 9, {"trial": 3, "row_budget": None}), "4/9 trials"),
        (Event("trial", "trial 3 COMPLETE", 40, 900, {"trial": 3, "row_budget": 900}), "40/900 rows"),
        (Event("progress", "rows", 128, 512), "128/512 rows"),
    ],
)
def test_progress_says_of_what(cli, remote, event, said):
    id = cli("remote", "submit", remote.study).out.strip()
    job = Jobs(remote.engine).claim("a runner")
    Events(remote.engine).add(job, [Event("phase", "before"), event])
    assert cli("remote", "status", id).out.splitlines()[-1] == said
    assert said in cli("remote", "list").out


def test_selectors_that_a_service_refuses_are_named_as_options(cli, remote):
    id = cli("remote", "submit", remote.study).out.strip()
    remote.ends(id, "done")
    for options, field, said in (
        (("--max-flops", "0.0001"), "--max-flops", "take it by --trial "),
        (("--max-flops", "0.5", "--confidence", "0.9"), "--confidence", "instead of --max-flops"),
    ):
        error = cli("remote", "schedule", id, *options, "-o", "-").err
        assert error.startswith(f"error: {field}: ")
        assert said in error


def test_who_has_no_token_is_told_where_to_put_one(cli, remote, monkeypatch):
    Tokens(remote.engine).create("me", "read")
    refused = cli("remote", "list")
    assert refused.code == 1
    assert "set AUTOPRUNE_TOKEN" in refused.err
    monkeypatch.setenv("AUTOPRUNE_TOKEN", "nonsense")
    assert "set AUTOPRUNE_TOKEN" in cli("remote", "list").err


def test_a_server_may_be_named_with_the_version_of_its_api(cli, remote, monkeypatch):
    server = os.environ["AUTOPRUNE_SERVER"]
    for ending in ("/", "/v1", "/v1/"):
        assert cli("remote", "list", "--server", server + ending).code == 0


def test_a_schedule_comes_with_its_codebooks(cli, remote, tmp_path):
    book = remote.settings.roots[0] / "book.safetensors"
    made = with_codebook(book)
    id = cli("remote", "submit", remote.study).out.strip()
    remote.ends(id, "done")
    front = make_front()
    point = front["points"][1]
    point["schedule"]["stages"] = made.to_json_dict()["stages"]
    save_front(remote.settings.output_of(id), front)
    file = tmp_path / "elsewhere" / "schedule.json"
    file.parent.mkdir()
    written = cli("remote", "schedule", id, "--trial", point["trial"], "-o", file)
    assert written.code == 0, written.err
    (beside,) = file.parent.glob("*.safetensors")
    assert beside.name in written.out
    assert beside.read_bytes() == book.read_bytes()
    assert bundled(Schedule.load(file)).codebooks[beside.name] == book.read_bytes()
    alone = cli("remote", "schedule", id, "--trial", point["trial"], "-o", "-")
    assert (alone.code, beside.name in alone.err) == (2, True)


def test_a_study_that_fails_is_an_exit_code(cli, remote):
    id = cli("remote", "submit", remote.study).out.strip()
    remote.ends(id, "failed", "no memory")
    watched = cli("remote", "watch", id)
    assert watched.code == 1
    assert watched.out == f"tiny ({id}): failed\nno memory\n"


def test_a_service_that_is_not_there_is_one_line(cli, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    asked = cli("remote", "list", "--server", "http://127.0.0.1:9")
    assert asked.code == 1
    assert "cannot be reached" in asked.err
    assert asked.err.count("\n") == 1


def test_ctrl_c_leaves_the_study_alone_and_says_so(cli, remote, monkeypatch):
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autoprune.service.client.Client.watch", interrupted)
    submitted = cli("remote", "submit", remote.study, "--watch", "-q")
    (study,) = cli("remote", "list", "--json").json["studies"]
    for left in (submitted, cli("remote", "watch", study["id"])):
        assert (left.code, left.out) == (130, "")
        said = f"stopped by Ctrl-C; the study goes on: `autoprune remote watch {study['id']}`"
        assert said in left.err
    assert study["state"] == "queued"


def test_quiet_leaves_the_result(cli, remote):
    id = cli("remote", "submit", remote.study, "-q").out.strip()
    cancelled = cli("remote", "cancel", id, "-q")
    assert (cancelled.code, cancelled.out, cancelled.err) == (0, "", "")


@pytest.mark.parametrize(
    "line",
    [("status", "nothing"), ("list", "--server", "x"), ("list", "--state", "lost"), ("schedule", "nothing", "-o", "-")],
)
def test_what_is_asked_wrongly_is_bad_input(cli, remote, line):
    refused = cli("remote", *line)
    assert (refused.code, refused.out) == (2, ""), refused.err


def test_states_are_those_of_a_job():
    assert get_args(_State) == STATES


def test_the_output_of_a_study_file_is_left_to_the_service(cli, remote, tmp_path):
    text = remote.study.read_text() + "output: runs/here\nstorage: sqlite:///here.db\nstorage_wait: 9\n"
    remote.study.write_text(text)
    sent = cli("remote", "submit", remote.study)
    assert sent.code == 0, sent.err
    with Client() as client, pytest.raises(RemoteInputError, match="output"):
        client.submit(yaml.safe_load(text))
