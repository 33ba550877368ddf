"""Study files that no one would write on purpose: each is refused in one error."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studies import write_study

from autoprune.errors import StudyError
from autoprune.search.spec import StudySpec


@pytest.mark.parametrize("value", ["9" * 5_000, "2026-02-31"])
def test_a_value_that_yaml_cannot_make_is_refused(tmp_path: Path, value: str) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text() + f"note: {value}\n")
    with pytest.raises(StudyError, match="holds a value that cannot be read"):
        StudySpec.load(file)


def test_rows_that_are_a_link_to_themselves_are_refused(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    rows = tmp_path / "calibration.jsonl"
    rows.unlink()
    rows.symlink_to(rows)
    with pytest.raises(StudyError, match=r"data\.calibration\.path: no such file"):
        StudySpec.load(file)


@pytest.mark.parametrize("name", ["long " * 2_000, "~nobody-of-this-name/schedule"])
def test_baselines_that_cannot_be_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="no such preset or schedule file") as raised:
        StudySpec.load(write_study(tmp_path, baselines=[name]))
    assert len(str(raised.value)) < 2_000
