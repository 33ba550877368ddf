"""The schedule beside the weights: in their folder or repository, with its codebook; offline nobody is asked."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from support.hub import FakeHub, fake_hub
from support.zoo import llava

import autoprune
from autoprune import presets
from autoprune.errors import ModelError, ScheduleError
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import bundled
from autoprune.sources import hub_file

HIMAP = presets.himap((1, 3), (0.5, 0.25))


def loaded_from(name: str, commit: str | None = None):
    model = llava().model
    model.config._name_or_path = model.name_or_path = name
    model.config._commit_hash = commit
    return model


def save_with_codebook(folder: Path, width: int = 64) -> Schedule:
    """A bundle in a folder: a schedule, and its codebook beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    book = folder / "made.safetensors"
    save_file({"prototypes": torch.randn(3, width, generator=torch.Generator().manual_seed(0))}, book)
    digest = hashlib.sha256(book.read_bytes()).hexdigest()
    criterion = {"name": "codebook", "path": str(book), "sha256": digest}
    stage = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": criterion}
    bundle = bundled(Schedule.model_validate({"stages": [stage]}))
    book.unlink()
    bundle.schedule.save(folder / "pruning_schedule.json")
    for name, content in bundle.codebooks.items():
        (folder / name).write_bytes(content)
    return bundle.schedule


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with fake_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def test_the_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "pruning_schedule.json"
    HIMAP.save(file)
    with caplog.at_level(logging.INFO, "autoprune"):
        patch = autoprune.apply(loaded_from(str(tmp_path)))
    assert (patch.schedule, patch.source) == (HIMAP, file)
    assert str(file) in caplog.text
    model = loaded_from("")
    assert autoprune.apply(model, HIMAP).source is None
    assert autoprune.apply(model, str(file)).source == file


def test_its_codebook_is_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_with_codebook(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("model", str(tmp_path / "model")):
        patch = autoprune.apply(loaded_from(name))
        assert Path(patch.schedule.stages[0].criterion.path).parent == tmp_path / "model"


def test_a_schedule_of_another_model_is_refused(tmp_path: Path) -> None:
    other = llava().model.config
    other.text_config.num_hidden_layers += 1
    HIMAP.with_model(other).save(tmp_path / "pruning_schedule.json")
    with pytest.raises(ModelError, match="num_layers"):
        autoprune.apply(loaded_from(str(tmp_path)))


@pytest.mark.parametrize("name", ["", "/no/such/folder", "org/name"])
def test_one_error_says_where_it_looked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ScheduleError, match="none is beside the weights") as told:
        autoprune.apply(loaded_from(name))
    assert (name or "loaded from nowhere") in str(told.value)


def test_the_repository_of_the_weights_at_their_revision(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_with_codebook(tmp_path / "made")
    files = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
    hub.repos["org/name"] = [files, {}]
    first = hub.commit("org/name", 0)
    patch = autoprune.apply(loaded_from("org/name", first))
    assert (patch.source.name, patch.source.parent.name) == ("pruning_schedule.json", first)
    asked = len(hub.asked)
    autoprune.apply(loaded_from("org/name", first))  # from the cache
    with pytest.raises(ScheduleError, match=r"does not hold pruning_schedule\.json"):
        autoprune.apply(loaded_from("org/name", hub.commit("org/name", 1)))
    assert len(hub.asked) > asked


def test_without_a_revision_it_is_that_of_the_weights_in_the_cache(hub: FakeHub) -> None:
    weights = {"config.json": b"{}", "pruning_schedule.json": HIMAP.to_json().encode()}
    hub.repos["org/name"] = [weights]
    hub_file("org/name", "config.json")  # as loading the model does
    hub.repos["org/name"].append({**weights, "pruning_schedule.json": presets.vtw(2).to_json().encode()})
    assert autoprune.apply(loaded_from("org/name")).schedule == HIMAP


def test_nobody_is_asked_when_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/name"] = [{"pruning_schedule.json": HIMAP.to_json().encode()}]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ScheduleError, match="not in the local cache"):
        autoprune.apply(loaded_from("org/name", hub.commit("org/name", 0)))
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    autoprune.apply(loaded_from("org/name"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert autoprune.apply(loaded_from("org/name")).schedule == HIMAP
    assert len(hub.asked) == asked


def test_a_codebook_elsewhere_is_not_fetched(hub: FakeHub) -> None:
    criterion = {"name": "codebook", "path": "../x.safetensors", "sha256": "0" * 64}
    stage = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": criterion}
    schedule = Schedule.model_validate({"stages": [stage]})
    hub.repos["org/name"] = [{"pruning_schedule.json": schedule.to_json().encode()}]
    with pytest.raises(ScheduleError, match="outside of the folder"):
        autoprune.apply(loaded_from("org/name"))
    assert not any("x.safetensors" in path for path in hub.asked)
