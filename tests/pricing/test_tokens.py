"""Token counts: of padded and interleaved prompts, and of each layer under a schedule."""

from __future__ import annotations

import torch

from autoprune import presets
from autoprune.pricing.tokens import PromptCounts, count_prompts, tokens_per_layer, visual_alive


def test_padding_and_answers_are_not_counted():
    rows = ["..tvvtvat", "ttttvvttt", "....tttta"]  # padding, text, visual, answer
    valid = torch.tensor([[c != "." for c in row] for row in rows])
    visual = torch.tensor([[c == "v" for c in row] for row in rows])
    counts = count_prompts({"attention_mask": valid.long()}, torch.tensor([7, 9, 8]), visual, [5, 1, 3], [70, 40, 0])
    assert counts == [
        PromptCounts(visual=3, text=2, text_before=1, new=5, vision_flops=70),
        PromptCounts(visual=2, text=7, text_before=4, new=1, vision_flops=40),
        PromptCounts(visual=0, text=4, text_before=0, new=3, vision_flops=0),
    ]


def test_text_that_goes_to_the_experts_of_images_is_counted():
    rows = ["..t(vv)tat", "(v)t(v)taa"]  # padding, text, start and end of images, visual, answer
    kinds = [torch.tensor([[c in marked for c in row] for row in rows]) for marked in ("t(v)a", "v", "(v)")]
    inputs = {"attention_mask": kinds[0].long(), "moe_mm_token_type_ids": kinds[2].int()}
    counts = count_prompts(inputs, torch.tensor([8, 8]), kinds[1], [1, 2])
    assert [c.text_as_visual for c in counts] == [2, 4]
    assert [c.text for c in counts] == [4, 6]


def test_layers_run_on_what_the_stages_leave():
    alive = visual_alive(presets.himap((2, 4), (0.5, 0.125)), 80, None)
    assert alive == [80, 40, 10]
    assert tokens_per_layer(presets.himap((2, 4), (0.5, 0.125)), alive, 20, 6) == [100, 100, 60, 60, 30, 30]
