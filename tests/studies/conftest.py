from __future__ import annotations

import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"
STUDY = STUDIES / "digit_scenes"
sys.path += [
    str(STUDY),
    str(STUDIES / "search_quality"),
    str(STUDIES / "scale"),
    str(STUDIES / "smol_scenes"),
    str(Path(__file__).parent),
]


@pytest.fixture
def study() -> Path:
    return STUDY
