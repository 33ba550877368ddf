"""Files are written whole or not at all, and links and devices stay what they are."""

from __future__ import annotations

import os

import pytest

from autoprune.presets import fastv
from autoprune.schedule import Schedule
from autoprune.schedule.files import write_whole


@pytest.mark.parametrize("content", ["Größe\n", b"\x00\xff"])
def test_text_and_bytes_arrive_as_they_are(tmp_path, content):
    file = tmp_path / "file"
    file.write_text("something longer that was there before")
    write_whole(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "schedule.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    for schedule in (fastv(), fastv(4)):  # a link that leads nowhere yet, and one that leads to a file
        schedule.save(link)
        assert link.is_symlink()
        assert Schedule.load(tmp_path / "elsewhere" / "real.json").key == schedule.key
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["real.json"]


def test_a_pipe_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "through it")
    assert os.read(reader, 100) == b"through it"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
