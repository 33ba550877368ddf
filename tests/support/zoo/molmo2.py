"""Molmo2: image tokens see each other both ways; some layers scale their rotary positions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, VOCAB, Plan, Zoo, count, finish, noise, prompts


def molmo2(plan: Plan = PLAN, seed: int = 0, norm_after: bool = False) -> Zoo:
    """A batch with images.

    Args:
        plan: Images of each sample.
        seed: Of the weights.
        norm_after: Whether a layer's norms stand after attention and feed-forward, as in the 7 B model.
    """
    torch.manual_seed(seed)
    heads = {"head_dim": 16, "num_key_value_heads": 2}
    text = {
        **TEXT,
        "head_dim": 16,
        "additional_vocab_size": 0,
        "norm_after": norm_after,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        "rope_scaling_layers": [2, 5],
    }
    config = hf.Molmo2Config(
        initializer_range=TEXT["initializer_range"],
        vision_config={**TOWER, **heads, "image_size": [16, 16], "patch_size": 4},
        adapter_config={
            **TOWER,
            **heads,
            "vision_feature_layer": [-1, 0],
            "text_hidden_size": TEXT["hidden_size"],
        },
        text_config=text,
        image_patch_id=IMAGE,
        image_start_token_id=VOCAB - 1,
    )
    images = count(plan)
    patches = torch.arange(16).view(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)  # each token pools 2 x 2 patches
    shift = torch.arange(images)[:, None, None] * 16
    rows, overview = (patches[None] + shift, torch.arange(16).view(1, 16, 1) + shift)
    high = torch.cat([overview, torch.full((images, 16, 3), -1)], 2)
    batch = prompts([20] * images, plan)
    inputs = {
        **batch,
        "pixel_values": noise(images, 16, 3 * 16),
        "image_token_pooling": torch.cat([rows, high], 1).reshape(-1, 4),
        "image_grids": torch.tensor([[2, 2, 4, 4]]).expand(images, -1),
        "mm_token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.Molmo2ForConditionalGeneration(config)), inputs)
