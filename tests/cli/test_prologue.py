"""The files that a command is asked to write are checked before it spends any compute."""

from __future__ import annotations

import json
import os
import socket

import pytest
from support.scenes import save_rows

from autoprune.cli.failures import InputError
from autoprune.cli.prologue import Target, check_targets, read_rows, read_visual_rows
from autoprune.data.options import DataOptions


def test_new_files_old_ones_with_force_and_none_are_fine(tmp_path):
    (tmp_path / "old.json").write_text("old")
    check_targets(False, Target("--output", tmp_path / "new.json"), Target("--plot", None, ".png"))
    check_targets(True, Target("--output", tmp_path / "old.json", ".json"))
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("old.json", "--force"),
        ("new.txt", "must end in .json"),
        ("no/new.json", "the folder does not exist"),
        ("folder.json", "is a folder"),
        ("loose.json", "the folder does not exist"),
        ("/proc/new.json", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, file, said):
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loose.json").symlink_to(tmp_path / "gone" / "s.json")
    with pytest.raises(InputError, match=said) as caught:
        check_targets(False, Target("--output", tmp_path / file, ".json"))
    assert caught.value.field == "--output"


def test_one_file_is_not_written_twice(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    with pytest.raises(InputError, match="--output writes"):
        check_targets(False, Target("--output", tmp_path / "a.json"), Target("--plot", tmp_path / "link"))


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_never_replaced(tmp_path, monkeypatch, force):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listening.bind("socket")
        for file in (tmp_path / "pipe", tmp_path / "socket", "/dev/null", tmp_path, "-"):
            with pytest.raises(InputError, match=r"is no file|is a folder|not written to stdout"):
                check_targets(force, Target("--output", file))
    assert (tmp_path / "pipe").is_fifo()


def test_rows_of_text_alone_and_columns_that_are_not_read_are_told(tmp_path, capsys):
    path = save_rows(tmp_path, 4, source="web")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    del rows[1]["images"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.id for row in read_visual_rows(str(path), DataOptions())] == ["0", "2", "3"]
    told = capsys.readouterr().err
    assert "columns not read: source" in told
    assert "1 of 4 rows have neither image nor video and are left out" in told
    assert len(read_rows(str(path), DataOptions())) == 4
