"""The parts of ``.ci/run full``: every test file belongs to exactly one, and an unknown part is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "run"


def test_every_test_file_belongs_to_exactly_one_part() -> None:
    parts = re.findall(r"^full_\w+\(\) \{ (?:\w+; )?slow (.*); \}$", SCRIPT.read_text(), re.MULTILINE)
    places = [ROOT / place for part in parts for place in part.split()]
    assert len(places) > 10
    for place in places:
        assert place.exists(), f"{place} is named, and is not there"
    for file in (ROOT / "tests").rglob("test_*.py"):
        if file.parent != ROOT / "tests":  # those are about the whole, and quick
            assert sum(file == place or place in file.parents for place in places) == 1, file


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    for asked in ("full:nonsense", "nonsense", "full:"):
        done = subprocess.run([SCRIPT, asked], capture_output=True, text=True)
        assert done.returncode == 2
        assert "families faults_data faults_processes fuzz" in done.stderr
