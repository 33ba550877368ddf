"""What the README says of the study in this repository is what its front says."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.report.claims import cost_sentence, preset_sentence
from autoprune.search.front import FrontFile

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def front(study: Path) -> FrontFile:
    if not (study / "front.json").exists():
        pytest.skip("studies/digit_scenes/front.json is not here: the study has to be run")
    return FrontFile.load(study)


def test_the_readme_says_what_the_front_says(front: FrontFile):
    text = " ".join(README.read_text(encoding="utf-8").split())
    for sentence in (cost_sentence(front, 0.02), preset_sentence(front)):
        assert sentence in text, f"write into README.md: {sentence}"
