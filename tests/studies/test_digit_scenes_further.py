"""`make.py scenes`: further rows of a split, under names of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import make
import pytest


def _draw(monkeypatch: pytest.MonkeyPatch, output: Path, **options: Any) -> None:
    given = {"split": "test", "count": 3, "seed": 7, "output": output, **options}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["make.py", "scenes", *words])
    make.main()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_several_seeds_share_one_folder_and_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study: Path
):
    _draw(monkeypatch, tmp_path)
    _draw(monkeypatch, tmp_path, seed=8)
    seven, eight = _rows(tmp_path / "test-seed7.jsonl"), _rows(tmp_path / "test-seed8.jsonl")
    together = [*seven, *eight, *_rows(study / "test.jsonl")]
    for name in ("id", "group", "image"):
        assert all("seed7" in row[name] for row in seven)
        assert not {row[name] for row in seven} & {row[name] for row in eight}
    assert len({row["id"] for row in together}) == len(together)
    assert all((tmp_path / row["image"]).is_file() for row in (*seven, *eight))
    assert [row["prompt"] for row in seven] != [row["prompt"] for row in eight]


def test_what_is_there_is_not_overwritten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _draw(monkeypatch, tmp_path)
    before = (tmp_path / "test-seed7.jsonl").read_bytes()
    with pytest.raises(SystemExit, match=r"test-seed7\.jsonl exists and is not overwritten: choose another --seed"):
        _draw(monkeypatch, tmp_path, count=4)
    assert (tmp_path / "test-seed7.jsonl").read_bytes() == before
    (tmp_path / "test-seed7.jsonl").unlink()
    with pytest.raises(SystemExit, match="test-seed7 exists and is not overwritten"):
        _draw(monkeypatch, tmp_path)


@pytest.mark.parametrize(("option", "value"), [("seed", 0), ("seed", -1), ("count", 0), ("questions", 0)])
def test_numbers_that_draw_nothing_new_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, value: int
):
    with pytest.raises(SystemExit) as refused:
        _draw(monkeypatch, tmp_path, **{option: value})
    assert refused.value.code == 2
    assert f"argument --{option}: must be at least 1, is {value}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="scikit-learn, which is not installed: pip install scikit-learn"):
        _draw(monkeypatch, tmp_path)
    assert not list(tmp_path.iterdir())
