"""`autoprune hub`: a schedule goes into a repository and comes out of it again."""

from __future__ import annotations

from support.codebooks import with_codebook
from support.hub import fake_hub

from autoprune import presets
from autoprune.schedule import Schedule


def test_there_and_back(cli, tmp_path, monkeypatch):
    with_codebook(tmp_path / "book.safetensors").save(tmp_path / "schedule.json")
    with fake_hub(tmp_path / "cache", monkeypatch) as hub:
        pushed = cli("hub", "push", tmp_path / "schedule.json", "me/pruned", "--base-model", "org/name", "--json")
        assert (pushed.code, pushed.json["repository"]) == (0, f"{hub.url}/me/pruned")
        assert b"base_model: org/name" in hub.files("me/pruned")["README.md"]
        assert hub.private == set()
        pulled = cli("hub", "pull", "me/pruned", "-o", tmp_path / "new", "--json")
    assert pulled.code == 0
    assert Schedule.load(pulled.json["written"][-1]).stages[0].keep.ratio == 0.5


def test_a_folder_and_what_is_there(cli, tmp_path):
    presets.vtw(3).save(tmp_path / "schedule.json")
    repository = tmp_path / "repository"
    told = cli("hub", "push", tmp_path / "schedule.json", repository)
    assert told.code == 0
    assert "the card names no base model; --base-model does" in told.err
    for line in (
        ("hub", "push", tmp_path / "schedule.json", repository),
        ("hub", "pull", repository, "-o", repository),
    ):
        refused = cli(*line)
        assert refused.code == 2
        assert "--force" in refused.err
        assert cli(*line, "--force", "--quiet").code == 0


def test_errors(cli, tmp_path):
    presets.vtw(3).save(tmp_path / "schedule.json")
    offline = cli("hub", "push", tmp_path / "schedule.json", "me/pruned")  # of the tests
    assert (offline.code, "HF_HUB_OFFLINE" in offline.err) == (1, True)
    missing = cli("hub", "pull", tmp_path / "nothing", "--json")
    assert (missing.code, missing.json["error"]["field"]) == (2, "repository")
    assert cli("hub", "push", tmp_path / "no.json", "./x").code == 2
