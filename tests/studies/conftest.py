from __future__ import annotations

import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "studies" / "digit_scenes"
sys.path.append(str(STUDY))


@pytest.fixture
def study() -> Path:
    return STUDY
