"""Repositories of schedules: what is pushed is what is pulled, from the hub as from a folder, and errors are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.codebooks import with_codebook
from support.hub import TOKEN, FakeHub, fake_hub
from support.scenes import save_tiny
from transformers import AutoModelForImageTextToText

import autoprune
from autoprune import presets
from autoprune.errors import AutopruneError, ScheduleError
from autoprune.hub.pulling import pull
from autoprune.hub.pushing import push
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import bundled, codebooks_of
from autoprune.sources import HubError, RepositoryError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def test_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    schedule = with_codebook(tmp_path / "book.safetensors")
    pushed = push(schedule, "me/pruned", private=True)
    (book,) = bundled(schedule).codebooks
    assert pushed.files == ("README.md", book, "pruning_schedule.json")
    assert (pushed.place, pushed.commit) == (f"{hub.url}/me/pruned", hub.commit("me/pruned"))
    assert set(hub.files("me/pruned")) == set(pushed.files)
    assert "me/pruned" in hub.private
    (tmp_path / "book.safetensors").unlink()
    assert pull("me/pruned", tmp_path / "pulled") == (book, "pruning_schedule.json")
    found = Schedule.load(tmp_path / "pulled" / "pruning_schedule.json")
    assert Path(codebooks_of(found)[0].path) == tmp_path / "pulled" / book
    assert bundled(found).schedule == bundled(Schedule.load(tmp_path / "pulled" / "pruning_schedule.json")).schedule


def test_a_folder_works_the_same(tmp_path: Path) -> None:
    schedule = with_codebook(tmp_path / "book.safetensors")
    folder = tmp_path / "new" / "repository"
    pushed = push(schedule, str(folder))
    assert pushed.commit is None
    assert set(pushed.files) == {file.name for file in folder.iterdir()}
    (tmp_path / "book.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"weights")
    files = pull(str(folder), tmp_path / "pulled")
    assert set(files) == set(pushed.files) - {"README.md"} == {file.name for file in (tmp_path / "pulled").iterdir()}
    with pytest.raises(RepositoryError, match="cannot be made private"):
        push(presets.vtw(3), str(tmp_path / "secret"), private=True)
    with pytest.raises(RepositoryError, match="no revisions"):
        pull(str(folder), tmp_path / "again", revision="main")


def test_versions_of_a_repository(hub: FakeHub, tmp_path: Path) -> None:
    for layer in (3, 4):
        push(presets.vtw(layer), "me/pruned")
    first, last = hub.commit("me/pruned", 1), hub.commit("me/pruned")
    for revision, layer in ((first, 3), (last, 4), (None, 4), ("main", 4)):
        pull("me/pruned", tmp_path, revision)
        assert Schedule.load(tmp_path / "pruning_schedule.json").stages == presets.vtw(layer).stages


def test_the_card_of_a_model_is_left_alone(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["me/model"] = [{"README.md": b"# A model", "model.safetensors": b""}]
    assert push(presets.vtw(3), "me/model").files == ("pruning_schedule.json",)
    assert hub.files("me/model")["README.md"] == b"# A model"
    push(presets.vtw(3), "me/pruned")
    push(presets.vtw(4), "me/pruned")
    assert b"before layer 4" in hub.files("me/pruned")["README.md"]
    (tmp_path / "README.md").write_text("# A model")
    push(presets.vtw(3), str(tmp_path))
    assert (tmp_path / "README.md").read_text() == "# A model"


def test_the_name_of_the_model(hub: FakeHub, tmp_path: Path) -> None:
    model = {"model_type": "llava", "num_layers": 32, "hidden_size": 64, "config_sha256": "ab" * 32}
    here = Schedule(model={**model, "name": "/data/secret/llava"}, stages=presets.vtw(3).stages)
    push(here, "me/pruned", base_model="llava-hf/llava-1.5-7b-hf")
    pushed = hub.files("me/pruned")
    assert b"base_model: llava-hf/llava-1.5-7b-hf" in pushed["README.md"]
    assert not any(b"/data/secret" in content for content in pushed.values())
    with pytest.raises(RepositoryError, match="no name of a model"):
        push(here, "me/pruned", base_model="/data/secret/llava")


def test_the_last_parts_of_a_folder_are_no_base_model(hub: FakeHub) -> None:
    model = {"model_type": "llava", "num_layers": 32, "hidden_size": 64, "config_sha256": "ab" * 32}
    stages = presets.vtw(3).stages
    push(Schedule(model={**model, "name": "digit_scenes/model"}, stages=stages), "me/local")
    assert b"base_model" not in hub.files("me/local")["README.md"]
    evidence = {"model_revision": "e" * 40}
    push(Schedule(model={**model, "name": "org/llava"}, stages=stages, evidence=evidence), "me/fetched")
    assert b"base_model: org/llava" in hub.files("me/fetched")["README.md"]


def test_what_cannot_be_pushed(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = with_codebook(tmp_path / "book.safetensors")
    (tmp_path / "book.safetensors").write_bytes(b"other")
    with pytest.raises(ScheduleError, match="another codebook"):
        push(schedule, "me/pruned")
    assert hub.repos == {}
    hub.repos["me/public"] = [{}]
    with pytest.raises(RepositoryError, match="is public"):
        push(presets.vtw(3), "me/public", private=True)
    assert hub.files("me/public") == {}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(AutopruneError, match=r"401|no access") as told:
        push(presets.vtw(3), "me/pruned")
    assert "hf_wrong" not in str(told.value)
    assert "HF_TOKEN" in str(told.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    with pytest.raises(HubError, match="needs a token"):
        push(presets.vtw(3), "me/pruned")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        push(presets.vtw(3), "me/pruned")


def test_what_cannot_be_pulled(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["me/model"] = [{"model.safetensors": b""}]
    (tmp_path / "empty").mkdir()
    for repo, said in (
        ("me/nothing", "none on the hub"),
        ("me/model", r"does not hold pruning_schedule\.json"),
        (str(tmp_path / "empty"), r"does not hold pruning_schedule\.json"),
        (str(tmp_path / "missing"), r"does not hold pruning_schedule\.json"),
    ):
        with pytest.raises(RepositoryError, match=said):
            pull(repo, tmp_path / "pulled")
    schedule = with_codebook(tmp_path / "book.safetensors")
    push(schedule, "me/pruned")
    (book,) = bundled(schedule).codebooks
    good = hub.files("me/pruned")
    for content, said in (
        (good | {book: b"other"}, "another codebook"),
        ({k: good[k] for k in good if k != book}, book),
    ):
        hub.repos["me/pruned"].append(content)
        with pytest.raises(AutopruneError, match=said):
            pull("me/pruned", tmp_path / "pulled")
    outside = schedule.with_criteria(lambda one: one.model_copy(update={"path": "../../outside.safetensors"}))
    for text, said in ((outside.to_json(), "outside of the folder"), ("{}", "not an autoprune schedule")):
        hub.repos["me/pruned"].append({"pruning_schedule.json": text.encode()})
        with pytest.raises(ScheduleError, match=said):
            pull("me/pruned", tmp_path / "pulled")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="not in the local cache"):
        pull("me/other", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    assert TOKEN not in str([path.read_bytes() for path in tmp_path.glob("*.json")])


def test_a_pull_needs_nothing_of_a_search() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('scipy', 'optuna', 'sqlalchemy', 'datasets')));"
        "import autoprune.hub.pulling"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_is_pushed_beside_the_weights_is_what_apply_takes(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    push(presets.vtw(3), str(tmp_path / "model"))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    patch = autoprune.apply(model)
    assert (patch.source, patch.schedule) == (tmp_path / "model" / "pruning_schedule.json", presets.vtw(3))
