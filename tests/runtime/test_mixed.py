"""Images and videos in one prompt: the visual tokens of both are one pool."""

from __future__ import annotations

import pytest
import torch
from support.schedules import FOR_MODES
from support.zoo import FAMILIES, IMAGE, VIDEO, Zoo

import autoprune

MIXED = ("llava_onevision", "qwen2_5_vl", "qwen2_vl", "qwen3_vl")
ALONG_THE_PROMPT = ("input_ids", "attention_mask", "mm_token_type_ids")


def image_then_video(family: str) -> Zoo:
    image, video = (FAMILIES[name].build([[0]]) for name in (family, f"{family}_video"))
    prompt = {
        name: torch.cat([image.inputs[name], video.inputs[name]], 1)
        for name in ALONG_THE_PROMPT
        if name in image.inputs
    }
    return Zoo(image.model, {**image.inputs, **video.inputs, **prompt}, (IMAGE, VIDEO))


@pytest.mark.parametrize("name", FOR_MODES)
@pytest.mark.parametrize("family", MIXED)
def test_an_image_and_a_video(family: str, name: str) -> None:
    row, zoo = FAMILIES[family], image_then_video(family)
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with row.reference(zoo.model, FOR_MODES[name], zoo.visual, zoo.inputs["attention_mask"]):
        expected = zoo.model.generate(**zoo.inputs, **options)
    with autoprune.apply(zoo.model, FOR_MODES[name]) as patch:
        got = zoo.model.generate(**zoo.inputs, **options)
    assert patch.report.visual_tokens[3].item() < patch.report.visual_tokens[0].item() <= zoo.visual.sum()
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)
