from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.engines.export.writing import fresh_folder
from autoprune.errors import ModelError


def fill(folder, text="new", replace=False, error=None):
    with fresh_folder(folder, replace) as partial:
        (partial / "compiled.json").write_text(text)
        if error:
            raise error


def test_a_folder_appears_whole_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        fill(tmp_path / name)
        assert (tmp_path / name / "compiled.json").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "empty"}


def test_a_failure_leaves_what_was_there(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "out", "half", replace=True, error=KeyboardInterrupt())
    assert (tmp_path / "out" / "compiled.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_model_is_replaced_only_if_that_is_asked_for(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(ModelError, match="--force"):
        fill(tmp_path / "out")
    fill(tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "compiled.json").read_text() == "new"


def test_nothing_else_is_ever_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file", "nowhere/out"):
        with pytest.raises(ModelError):
            fill(tmp_path / name, replace=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years"


def test_the_current_folder_and_a_link_are_the_folders_that_they_stand_for(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    monkeypatch.chdir(tmp_path / "out")
    fill(Path(), replace=True)
    assert (tmp_path / "out" / "compiled.json").read_text() == "new"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    fill(tmp_path / "link")
    assert (tmp_path / "empty" / "compiled.json").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
