"""Every check on models that differ in what they do to a sequence, from their config alone."""

from __future__ import annotations

from typing import Any

import pytest
from support.zoo import FAMILIES, gemma3, internvl, llama, qwen2_5_vl
from support.zoo.base import Zoo
from support.zoo.lfm2_vl import lfm2_vl
from support.zoo.llama4 import llama4

from autoprune.doctor import ModelUnderTest, default_schedules, examine, random_model_under_test
from autoprune.doctor.prompts import PromptSet, VisualPrompt, reserved_ids
from autoprune.errors import DataError, ModelError

CONFIGS = {
    "internvl": lambda: internvl().model.config,
    "qwen2_5_vl": lambda: qwen2_5_vl().model.config,
    "gemma3: sliding windows": lambda: gemma3().model.config,
    "llama4: rotary embeddings as complex numbers": lambda: llama4().model.config,
    "lfm2_vl: recurrent layers": lambda: lfm2_vl().model.config,
    "llama: no vision at all": lambda: llama().config,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_all_green(name, tmp_path):
    report = examined(random_model_under_test(tmp_path, CONFIGS[name]()))
    assert "vision tower not exercised" in report.inputs


@pytest.mark.parametrize("name", ["llava", "internvl", "qwen2_5_vl", "gemma3"])
def test_all_green_with_images(name):
    """Two images beside one, through the tower, with the positions of the family."""
    zoo = FAMILIES[name].build()
    rows = tuple(alone(zoo, b, images) for b, images in enumerate([[0, 1], [2]]))
    prompts = PromptSet(rows, VisualPrompt(zoo.inputs, zoo.visual, marked=True), "images")
    examined(ModelUnderTest(zoo.model, prompts, reserved_ids(zoo.model)))


def examined(tested: ModelUnderTest) -> Any:
    schedules = default_schedules(tested.model, tested.prompts.rows[0])
    assert len(schedules) == 3
    report = examine(tested, schedules)
    assert [r for r in report.results if r.status == "fail"] == []
    assert {r.reason for r in report.results if r.status != "pass"} <= {"no stage chooses by an attention map"}
    assert report.passed
    return report


def alone(zoo: Zoo, b: int, images: list[int]) -> VisualPrompt:
    """A row of the zoo's batch without its padding, with its own images."""
    ids, valid = zoo.inputs["input_ids"], zoo.inputs["attention_mask"][b].bool()
    inputs = {name: t[b : b + 1, valid] for name, t in zoo.inputs.items() if t.shape == ids.shape}
    pixels, grids = zoo.inputs["pixel_values"], zoo.inputs.get("image_grid_thw")
    if grids is None:
        return VisualPrompt(inputs | {"pixel_values": pixels[images]}, zoo.visual[b : b + 1, valid], marked=True)
    ends = grids.prod(1).cumsum(0).tolist()
    patches = pixels[[0, *ends][images[0]] : ends[images[-1]]]
    pictured = {"pixel_values": patches, "image_grid_thw": grids[images]}
    return VisualPrompt(inputs | pictured, zoo.visual[b : b + 1, valid], marked=True)


def test_a_model_with_one_layer_is_too_shallow_for_most(tmp_path):
    tested = random_model_under_test(tmp_path, llama(layers=1).config)
    schedules = default_schedules(tested.model, tested.prompts.rows[0])
    report = examine(tested, schedules)
    refused = [r for r in report.results if r.check == "all"]
    assert {r.schedule for r in refused} == {"by attention", "withdrawal"}
    assert all("too few" in r.reason for r in refused)
    assert report.passed


def test_rows_without_a_processor_are_refused_before_a_model_is_built(tmp_path, data, monkeypatch):
    monkeypatch.setattr("autoprune.doctor.case.random_model", lambda config: pytest.fail("built"))
    with pytest.raises(DataError, match="needs a processor"):
        random_model_under_test(tmp_path, internvl().model.config, list(data)[:2])


def test_a_model_that_fails_without_pruning_is_no_case_for_us(tmp_path):
    tested = random_model_under_test(tmp_path, llama().config)
    tested.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="unpatched model gives non-finite logits"):
        examine(tested, {})
