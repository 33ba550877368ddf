"""The service as real processes: a study from its submission to its schedule."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import listener, script
from support.service import study_in, waited
from support.serving import serving

from autoprune.errors import StudyError
from autoprune.schedule import Schedule
from autoprune.service.serving import listeners, runners, serve
from autoprune.service.settings import PREFIX, Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.tokens import Tokens


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_study_from_its_submission_to_its_schedule(root: Path, tmp_path: Path, url: str) -> None:
    with serving(root, tmp_path / "service", url) as service:
        id = service.submitted(study_in(root))
        with service.http.stream("GET", f"/v1/studies/{id}/events", timeout=120) as watched:
            kinds = [line.split(": ", 1)[1] for line in watched.iter_lines() if line.startswith("event: ")]
        assert kinds[-1] == "end"
        assert {"phase", "trial", "progress"} <= set(kinds)
        seen = service.state(id)
        assert (seen["state"], seen["attempts"], seen["reason"]) == ("done", 1, "")
        front = service.http.get(f"/v1/studies/{id}/front").json()
        assert front["study"]["complete"]
        assert "<html" in service.http.get(f"/v1/studies/{id}/report").text
        chosen = service.http.get(f"/v1/studies/{id}/schedule", params={"max_drop": 1}).json()
        assert Schedule.model_validate(chosen["schedule"]).evidence["samples"] == 14
        published = service.http.post("/v1/schedules/tiny/versions", json={"study": id, "max_drop": 1}).json()
        assert service.http.get("/v1/schedules/tiny/versions/1").json()["schedule"] == chosen["schedule"]
        assert published["lineage"]["model_fingerprint"] == front["model"]["fingerprint"]
        claim = {
            "published": {"name": "tiny", "version": 1},
            "model": {"path": "model"},
            "data": study_in(root)["data"]["validation"],
        }
        verified = service.verified(claim)
        (version,) = service.http.get("/v1/schedules/tiny/versions").json()["versions"]
        assert version["verdict"] == {"verification": verified["id"], **verified["result"]}
        point = next(point for point in front["points"] if point["trial"] == chosen["trial"])
        assert verified["result"]["samples"] == 14
        assert verified["result"]["drop"] == pytest.approx(point["validation"]["drop"])
        broken = study_in(root, "broken")
        (root / "bad.jsonl").write_text('{"prompt": 5}\n')
        broken["data"]["calibration"]["path"] = "bad.jsonl"
        failed = service.ended(service.submitted(broken))
        assert failed["state"] == "failed"
        assert "bad.jsonl" in failed["reason"]
        assert "bug" not in failed["reason"]


@pytest.mark.slow
def test_a_study_is_cancelled_in_its_middle_and_resumed(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path / "service", f"sqlite:///{tmp_path}/service.db") as service:
        id = service.submitted(study_in(root, trials=60))
        service.searching(id)
        assert service.http.post(f"/v1/studies/{id}/cancel").status_code == 200
        assert service.ended(id)["state"] == "cancelled"
        assert not service.http.get(f"/v1/studies/{id}/front").json()["study"]["complete"]
        assert service.http.post(f"/v1/studies/{id}/resume").json()["state"] == "queued"
        assert service.ended(id)["state"] == "done"
        assert service.http.get(f"/v1/studies/{id}/front").json()["study"]["complete"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runners_and_twenty_studies(root: Path, tmp_path: Path, url: str) -> None:
    with serving(root, tmp_path / "service", url, runners=2) as service:
        ids = [service.submitted(study_in(root, f"s{i}", trials=4)) for i in range(20)]

        def running() -> list[str]:
            return [id for id in ids if service.state(id)["state"] == "running"]

        waited(lambda: any(service.state(id)["state"] == "done" for id in ids), 300)
        victim = waited(running)[0]
        before, holder = service.finished(victim), service.state(victim)["runner"]
        (killed,) = (one for one in service.children("runner") if f":{one.pid}:" in holder)
        killed.kill()
        for id in ids:
            waited(lambda id=id: service.state(id)["state"] not in ("queued", "running"), 900)
            service.whole(id, before if id == victim else {})
        assert {service.state(id)["attempts"] for id in ids if id != victim} == {1}
        assert len(service.children("runner")) == 2


def test_it_does_not_let_everybody_in(tmp_path: Path) -> None:
    environment = {**os.environ, f"{PREFIX}FOLDER": str(tmp_path / "service"), f"{PREFIX}HOST": "0.0.0.0"}
    done = subprocess.run(
        [sys.executable, "-m", "autoprune", "serve"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "autoprune token create" in done.stderr


@pytest.fixture
def no_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(settings: Settings) -> None:
        pytest.fail("runners were started")

    monkeypatch.setattr("autoprune.service.serving.runners", started)


@pytest.mark.usefixtures("no_runners")
def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match="taken by another program") as refused:
            serve(Settings(folder=tmp_path / "service", roots=(tmp_path,), port=port))
    assert (refused.value.field, refused.value.value) == ("port", port)


@pytest.mark.usefixtures("no_runners")
@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_told_before_anything_starts(tmp_path: Path, host: str) -> None:
    settings = Settings(folder=tmp_path / "service", roots=(tmp_path,), host=host, port=0)
    Tokens(open_database(settings.database_url)).create("me", "read")
    with pytest.raises(StudyError, match="for itself alone") as refused:
        serve(settings)
    assert (refused.value.field, refused.value.value) == ("host", host)


def test_it_listens_on_every_address_of_a_name() -> None:
    sockets = listeners("localhost", 0)
    known = {found[4][0] for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert "127.0.0.1" in {one.getsockname()[0] for one in sockets} <= known
    assert len({one.getsockname()[1] for one in sockets}) == 1
    for one in sockets:
        with socket.create_connection(one.getsockname()[:2], timeout=30):
            one.close()


def runner_settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path / "service", roots=(tmp_path,))


def started(tmp_path: Path, count: int) -> list[int]:
    """Processes of the runners that were started so far, once there are as many."""
    file = tmp_path / "started"
    waited(lambda: file.exists() and len(file.read_text().split()) >= count)
    return [int(pid) for pid in file.read_text().split()]


def test_a_runner_that_was_started_again_is_told_once_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path / "runner", listener(tmp_path)))
    with runners(runner_settings(tmp_path)):
        os.kill(started(tmp_path, 1)[0], signal.SIGKILL)
        second = started(tmp_path, 2)[1]
        assert os.getsid(second) == second  # no signal from the terminal reaches it
    assert (tmp_path / "told").read_text().split() == ["TERM"]


def test_runners_begin_once_the_machine_can_start_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "runner"))
    with runners(runner_settings(tmp_path)):
        script(tmp_path / "runner", listener(tmp_path))
        assert started(tmp_path, 1)
