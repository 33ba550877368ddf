"""A conversation that goes on after remove(): as with the patch, or one clear error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers as hf
from support.zoo import Zoo, gemma3, llama, llava
from support.zoo.base import CLIP, IMAGE, TEXT, finish, noise, prompts
from torch import Tensor
from transformers import DynamicCache

import autoprune
from autoprune import presets
from autoprune.errors import PatchError

WITHDRAW, HIMAP = presets.vtw(2), presets.himap((1, 3), (0.5, 0.25))
LATE = "no longer patched"


def windows_everywhere(window: int = 16) -> Zoo:
    """A LLaVA whose layers all have a sliding window, narrower than what pruning leaves of the prompt."""
    torch.manual_seed(0)
    text = {"model_type": "mistral", **TEXT, "sliding_window": window}
    config = hf.LlavaConfig(vision_config=CLIP, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1)
    inputs = {**prompts([16, 16], [[0, 1]]), "pixel_values": noise(2, 3, 16, 16)}
    return Zoo(finish(hf.LlavaForConditionalGeneration(config)), inputs)


def steps(zoo: Zoo, schedule: autoprune.Schedule, remove: bool, masked: bool = False, new: int = 1) -> Tensor:
    """Logits of three calls after a patched prefill, with the patch or without it."""
    cache, mask, found = DynamicCache(config=zoo.model.config), zoo.inputs["attention_mask"], []
    patch = autoprune.apply(zoo.model, schedule)
    try:
        with torch.no_grad():
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
            if remove:
                patch.remove()
            for _ in range(3):
                ids = torch.full((len(mask), new), 40)
                mask = torch.cat([mask, torch.ones_like(ids)], 1)
                call = {"attention_mask": mask} if masked else {}
                found.append(zoo.model(input_ids=ids, past_key_values=cache, use_cache=True, **call).logits)
    finally:
        patch.remove()
    return torch.cat(found, 1)


def on_eager(zoo: Zoo) -> Zoo:
    zoo.model.set_attn_implementation("eager")
    return zoo


@pytest.mark.parametrize("schedule", [WITHDRAW, HIMAP], ids=["withdraw", "himap"])
@pytest.mark.parametrize(
    "build",
    [
        windows_everywhere,
        lambda: on_eager(windows_everywhere()),
        lambda: on_eager(llava([[0]])),
        lambda: gemma3([[0]]),
        lambda: on_eager(gemma3([[0]])),
    ],
    ids=["windows", "windows, eager", "llava, eager", "gemma3", "gemma3, eager"],
)
def test_where_the_model_makes_a_mask_going_on_is_one_clear_error(
    build: Callable[[], Zoo], schedule: autoprune.Schedule
) -> None:
    for masked in (False, True):
        assert steps(build(), schedule, remove=False, masked=masked).isfinite().all()
        with pytest.raises(PatchError, match=LATE):
            steps(build(), schedule, remove=True, masked=masked)


def test_a_batch_with_padding_of_which_equally_many_tokens_are_left() -> None:
    """Ten words in each sample; the shorter one has two visual tokens, the longer one ten."""
    model, ids = llama(), torch.randint(10, 100, (2, 20))
    valid, visual = torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    valid[1, :8], visual[0, 2:12], visual[1, 10:12] = 0, True, True
    cache = DynamicCache(config=model.config)
    with autoprune.apply(model, WITHDRAW, visual), torch.no_grad():
        model(input_ids=ids, attention_mask=valid, past_key_values=cache, use_cache=True)
    assert cache.layers[2].keys.shape[-2] == 10
    with pytest.raises(PatchError, match=LATE):
        model(
            input_ids=ids[:, :1],
            attention_mask=torch.cat([valid, valid[:, -1:]], 1),
            past_key_values=cache,
            use_cache=True,
        )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("build", [lambda: llava([[0]]), lambda: windows_everywhere(64)], ids=["llava", "wide windows"])
def test_where_no_mask_is_needed_decoding_goes_on_as_with_the_patch(build: Callable[[], Zoo], masked: bool) -> None:
    expected = steps(build(), HIMAP, remove=False, masked=masked)
    torch.testing.assert_close(steps(build(), HIMAP, remove=True, masked=masked), expected, atol=1e-5, rtol=0)
    with pytest.raises(PatchError, match=LATE):
        steps(build(), HIMAP, remove=True, masked=masked, new=2)
