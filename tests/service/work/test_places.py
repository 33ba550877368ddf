"""Rows of a study: as many as the service allows, and no image from outside of its folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from autoprune.data.samples import SampleSet, load_samples
from autoprune.errors import DataError, StudyError
from autoprune.service.settings import Settings
from autoprune.service.work.places import check_rows


def rows(folder: Path, *images: str) -> SampleSet:
    file = folder / "rows.jsonl"
    lines = [json.dumps({"image": image, "prompt": "what?", "answers": ["a"]}) for image in images]
    file.write_text("\n".join(lines) + "\n")
    return load_samples(file)


def test_rows_stay_below_the_roots_and_within_their_number(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret.png"
    root.mkdir()
    for file in (outside, root / "inside.png"):
        Image.new("RGB", (8, 8)).save(file)
    (root / "link.png").symlink_to(outside)
    (root / "frames").mkdir()
    settings = Settings(roots=(root,), most_rows=3)
    check_rows("data.calibration", rows(root, "inside.png", "inside.png"), settings)
    for bad in ("../secret.png", str(outside), "link.png"):
        with pytest.raises(DataError, match="row 1 names a file outside"):
            check_rows("data.calibration", rows(root, "inside.png", bad), settings)
    with pytest.raises(StudyError, match=r"data\.calibration: has more rows .*got 4.*at most 3"):
        check_rows("data.calibration", rows(root, *["inside.png"] * 4), settings)


def test_frames_of_videos_stay_below_the_roots(tmp_path: Path) -> None:
    root, frames = tmp_path / "root", tmp_path / "frames"
    for folder in (root, frames):
        folder.mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8)).save(frames / f"{number}.png")
    file = root / "rows.jsonl"
    file.write_text(json.dumps({"video": "../frames", "prompt": "what?", "answers": ["a"]}) + "\n")
    with pytest.raises(DataError, match="outside"):
        check_rows("data", load_samples(file), Settings(roots=(root,)))
