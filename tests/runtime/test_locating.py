"""Where the visual tokens are, in models that say so in ways of their own."""

from __future__ import annotations

import pytest
import torch
from support.reference import MaskedReference
from support.versions import needs
from support.zoo.blip2 import blip2
from support.zoo.llava import llava
from support.zoo.omni import qwen2_5_omni

import autoprune
from autoprune import presets

AUDIO = 4
STEPS = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}


def test_audio_tokens_are_not_visual() -> None:
    zoo = qwen2_5_omni()
    zoo.inputs["input_ids"][:, -3] = AUDIO
    with autoprune.apply(zoo.model, presets.vtw(2)) as patch, torch.no_grad():
        zoo.model(**zoo.inputs)
    assert patch.visual is not None
    assert torch.equal(patch.visual, zoo.visual)


@needs("5.23", "the Q-Former has no sdpa attention, and so the kernel cannot be chosen")
@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 3}], ids=str)
def test_a_language_model_that_generates_from_embeddings(options: dict) -> None:
    """BLIP-2 hands its merged embeddings to its language model, without any mask."""
    zoo, wanted = blip2(), presets.fastv(2, 0.5)
    with MaskedReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]), torch.no_grad():
        expected = zoo.model.generate(**zoo.inputs, **STEPS)
    with autoprune.apply(zoo.model, wanted) as patch, torch.no_grad():
        got = zoo.model.generate(**zoo.inputs, **STEPS, **options)
    assert patch.report.active
    assert patch.report.visual_tokens[2].tolist()[:: options.get("num_beams", 1)] == [12, 6]
    if "num_beams" not in options:
        assert torch.equal(got.sequences, expected.sequences)
        torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)


def test_a_mask_that_was_asked_for_outside_a_call_is_forgotten() -> None:
    zoo = llava()
    core, ids = zoo.model.model, zoo.inputs["input_ids"]
    elsewhere = ids.roll(-3, 1)
    with autoprune.apply(zoo.model, presets.vtw(2)) as patch, torch.no_grad():
        features = torch.zeros(int(zoo.visual.sum()), 64)
        core.get_placeholder_mask(elsewhere, core.get_input_embeddings()(elsewhere), features)
        core(**zoo.inputs)
    assert patch.visual is not None
    assert torch.equal(patch.visual, zoo.visual)
