"""Files are written whole, and read up to a bound; what is no file is written to as it is."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoprune.errors import AutopruneError
from autoprune.models.config import read_config
from autoprune.schedule import Schedule
from autoprune.schedule.files import read_json, write_whole
from autoprune.search.front import FrontFile
from autoprune.search.spec import StudySpec


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["link.json", "real.json"]


def test_threads_write_one_file_and_none_takes_the_others_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, replace = threading.Barrier(2, timeout=60), os.replace

    def together(partial: Path, target: Path) -> None:
        both.wait()
        replace(partial, target)

    monkeypatch.setattr(os, "replace", together)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda content: write_whole(tmp_path / "file", content), "ab")) == [None, None]
    assert (tmp_path / "file").read_text() in ("a", "b")


def test_a_pipe_is_written_to() -> None:
    code = "from autoprune.schedule.files import write_whole; write_whole('/dev/stdout', 'through')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "through"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[" * 200 + b"]" * 200, "is nested too deeply"),
        (b"9" * 5000, "is not JSON"),
        (b" " * 2000 + b"1", "is larger than 1,000 bytes"),
    ],
)
def test_json_that_cannot_be_read_says_why(tmp_path, content, words):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_json(tmp_path / "file.json", 1000 if content[:1] == b" " else 1_000_000)
    assert len(str(caught.value)) < 300


def test_what_has_no_end_is_read_to_the_bound():
    with pytest.raises(ValueError, match="is larger than"):
        read_json("/dev/zero", 1000)


def test_a_deep_value_within_the_bound_is_read(tmp_path):
    (tmp_path / "file.json").write_text("[" * 90 + "]" * 90)
    assert read_json(tmp_path / "file.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "/dev/zero"])
def test_every_json_file_has_its_bounds(tmp_path, text, model_folder):
    """Schedule, front, study and config, each with the error of its own kind."""
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "run").mkdir()
    files = [tmp_path / "s.json", tmp_path / "run/front.json", tmp_path / "model/config.json", tmp_path / "study.yaml"]
    for file in files:
        file.unlink(missing_ok=True)
        if text == "/dev/zero":
            file.symlink_to(text)
        else:
            file.write_text(text)
    readers = (Schedule.load, lambda _: FrontFile.load(tmp_path / "run"), lambda _: read_config(tmp_path / "model"))
    for file, read in zip(files, (*readers, StudySpec.load), strict=True):
        if text == "/dev/zero" and "front" in file.name:
            continue  # half a gigabyte
        with pytest.raises(AutopruneError, match=r"nested too deeply|is larger than|cannot be used") as caught:
            read(file)
        assert len(str(caught.value)) < 500


def test_a_full_disk_names_the_file_that_it_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_whole(tmp_path / "front.json", "{}")
    assert raised.value.filename == str(tmp_path / "front.json")
