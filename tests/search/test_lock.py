"""One driver per output folder, with drivers that are processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.studies import BACKEND, tiny_spec

from autoprune.errors import StudyError
from autoprune.search.driver import run_study
from autoprune.search.lock import claimed_folder

HOLD = """
import sys
from pathlib import Path
from autoprune.search.lock import claimed_folder
with claimed_folder(Path(sys.argv[1]), "tiny"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder_of(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until its input ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_a_second_driver_is_refused_and_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, search={"trials": 3})
    with holder_of(spec.output_path) as other:
        with pytest.raises(StudyError, match=f"another calibrate is writing here .process {other.pid} on") as raised:
            run_study(spec, backend=BACKEND)
        assert raised.value.field == "output"
        assert "\n" not in str(raised.value)
        assert not (spec.output_path / "study.db").exists()
    run_study(spec, backend=BACKEND)


def test_who_is_refused_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprune.search import lock

    with holder_of(tmp_path / "run"):
        (tmp_path / "run" / "study.db").write_text("of the other")
        monkeypatch.setattr(lock, "_there", lambda *paths: set())  # as if it had looked before the other began
        with pytest.raises(StudyError, match="another calibrate"), claimed_folder(tmp_path / "run", "tiny"):
            pass
        assert (tmp_path / "run" / "study.db").read_text() == "of the other"


def test_a_killed_driver_leaves_no_lock(tmp_path: Path) -> None:
    with holder_of(tmp_path) as other:
        other.kill()
        other.wait()
        assert (tmp_path / "driver.json").exists(), "its holder is not there to remove it"
        with claimed_folder(tmp_path, "tiny"), pytest.raises(StudyError), claimed_folder(tmp_path, "tiny"):
            pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"), claimed_folder(tmp_path / "file" / "run", "tiny"):
        pass


def test_the_package_needs_no_module_that_only_unix_has() -> None:
    unix = {"fcntl", "termios", "pwd", "grp", "resource"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({unix!r})); "
        "import autoprune.search.lock, autoprune.search.inputs, autoprune.search.loop"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
