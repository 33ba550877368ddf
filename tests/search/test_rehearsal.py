"""A dry run tries what a study will write to, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from support.studies import tiny_spec

from autoprune.errors import AutopruneError, StorageError, StudyError
from autoprune.search.lock import claimed_folder
from autoprune.search.rehearsal import rehearse


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_nothing_stays(tmp_path: Path) -> None:
    for storage in (None, "sqlite:///other.db"):
        spec = tiny_spec(tmp_path, output="new/run", storage=storage)
        before = names(tmp_path)
        rehearse(spec)
        assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("sections", "field", "kind"),
    [
        ({"output": "/proc/run"}, "output", StudyError),
        ({"storage": "sqlite:////proc/study.db"}, "storage", StudyError),
        ({"storage": "sqlite:///text.db"}, "storage", StudyError),
        ({"storage": "postgresql+psycopg://me:secret@127.0.0.1:9/x"}, "storage", StorageError),
        ({"storage": "postgresql+nodriver://127.0.0.1/x"}, "storage", StudyError),
    ],
)
def test_what_cannot_be_written_is_said(
    tmp_path: Path, sections: dict[str, str], field: str, kind: type[AutopruneError]
) -> None:
    (tmp_path / "text.db").write_text("no database but a text, and long enough to be read as one " * 20)
    with pytest.raises(kind) as caught:
        rehearse(tiny_spec(tmp_path, **sections))
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


def test_a_folder_in_use_is_said(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    with claimed_folder(spec.output_path, spec.name), pytest.raises(StudyError, match="another calibrate"):
        rehearse(spec)


def test_the_cache_is_tried_for_names_on_the_hub_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", "/proc/nohome")
    spec = tiny_spec(tmp_path)
    rehearse(spec)
    named = spec.model_copy(update={"model": spec.model.model_copy(update={"path": "org/name"})})
    with pytest.raises(StudyError, match="HF_HOME: cannot be written"):
        rehearse(named)


def test_the_home_is_tried_where_ray_will_write_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/nohome")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    rehearse(tiny_spec(tmp_path))
    with pytest.raises(StudyError, match="HOME: cannot be written"):
        rehearse(tiny_spec(tmp_path, workers={"count": 1}))
