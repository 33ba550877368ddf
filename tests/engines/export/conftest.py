from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoprune.data.samples import load_samples
from autoprune.models.loading import load_model

DIGITS = Path(__file__).parents[3] / "studies" / "digit_scenes"


@pytest.fixture(scope="session")
def digits_folder():
    return DIGITS


@pytest.fixture(scope="session")
def digits():
    """The trained model of the repository."""
    return load_model(DIGITS / "model")


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """Its first test rows."""
    rows = [json.loads(line) for line in (DIGITS / "test.jsonl").read_text().splitlines()[:64]]
    file = tmp_path_factory.mktemp("questions") / "rows.jsonl"
    file.write_text("".join(json.dumps({**row, "image": str(DIGITS / row["image"])}) + "\n" for row in rows))
    return load_samples(file)
