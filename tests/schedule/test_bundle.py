"""A schedule with its codebooks beside it: found there, checked by digest, and under a name of their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.codebooks import with_codebook

from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import bundled, codebooks_of


def test_a_bundle_holds_what_its_schedule_needs(tmp_path: Path) -> None:
    schedule = with_codebook(tmp_path / "elsewhere" / "book.safetensors")
    bundle = bundled(schedule)
    ((name, content),) = bundle.codebooks.items()
    (criterion,) = codebooks_of(bundle.schedule)
    assert criterion.path == name == f"codebook-{criterion.sha256[:12]}.safetensors"
    assert content == (tmp_path / "elsewhere" / "book.safetensors").read_bytes()
    assert bundled(Schedule()).codebooks == {}
    assert bundled(with_codebook(tmp_path / "moved.safetensors")).schedule == bundle.schedule


def test_codebooks_that_cannot_be_taken(tmp_path: Path) -> None:
    schedule = with_codebook(tmp_path / "book.safetensors")
    with_codebook(tmp_path / "book.safetensors", seed=1)
    with pytest.raises(ScheduleError, match="another codebook"):
        bundled(schedule)
    (tmp_path / "book.safetensors").unlink()
    with pytest.raises(ScheduleError, match="no such codebook"):
        bundled(schedule)
    bad = schedule.with_criteria(lambda one: one.model_copy(update={"sha256": "../../secret"}))
    with pytest.raises(ScheduleError, match="no SHA-256"):
        bundled(bad)


def test_what_is_no_safetensors_file_is_not_carried(tmp_path: Path) -> None:
    (tmp_path / "book.safetensors").write_bytes(b"\x80\x04pickled")
    digest = hashlib.sha256(b"\x80\x04pickled").hexdigest()
    schedule = with_codebook(tmp_path / "other.safetensors")
    wrong = {"path": str(tmp_path / "book.safetensors"), "sha256": digest}
    with pytest.raises(ScheduleError, match="no safetensors file"):
        bundled(schedule.with_criteria(lambda one: one.model_copy(update=wrong)))


def test_a_file_finds_its_codebook_from_the_working_folder_then_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = with_codebook(tmp_path / "carried" / "book.safetensors", named="book.safetensors")
    schedule.save(tmp_path / "carried" / "schedule.json")
    (found,) = codebooks_of(Schedule.load("carried/schedule.json"))
    assert found.path == str(tmp_path / "carried" / "book.safetensors")
    with_codebook(tmp_path / "book.safetensors")
    (found,) = codebooks_of(Schedule.load("carried/schedule.json"))
    assert found.path == "book.safetensors"  # as before
