"""Molmo2: image tokens see each other both ways; some layers scale their rotary positions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts

HEADS = {"head_dim": 16, "num_key_value_heads": 2, "initializer_range": 0.12}


def molmo2(plan: Plan = PLAN, seed: int = 0, olmo: bool = False) -> Zoo:
    """Images as an overview of 4 tokens and a detailed view of 16.

    Args:
        plan: Images of each sample.
        seed: Of the weights.
        olmo: Whether norms stand after attention and MLP, and over all heads at once, as in an OLMo decoder.
    """
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "head_dim": 16,
        "additional_vocab_size": 0,
        "norm_after": olmo,
        "qk_norm_type": "olmo" if olmo else "qwen3",
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        "rope_scaling_layers": [2, 5],
    }
    projected = {"vision_feature_layer": [-1, 0], "text_hidden_size": TEXT["hidden_size"]}
    config = hf.Molmo2Config(
        vision_config={**TOWER, **HEADS, "image_size": [16, 16], "patch_size": 4},
        adapter_config={**TOWER, **HEADS, **projected},
        text_config=text,
        image_patch_id=IMAGE,
        initializer_range=TEXT["initializer_range"],
    )
    images = count(plan)
    patches = torch.arange(16)
    overview = patches.view(2, 2, 2, 2).transpose(1, 2).reshape(4, 4)  # 2 x 2 patches in a token
    detail = torch.nn.functional.pad(patches[:, None], (0, 3), value=-1)  # one patch in a token
    pooling = torch.cat([overview, detail])
    batch = prompts([len(pooling)] * images, plan)
    inputs = {
        **batch,
        "pixel_values": noise(images, 16, 3 * 16),
        "image_token_pooling": torch.cat([torch.where(pooling < 0, -1, pooling + 16 * i) for i in range(images)]),
        "image_grids": torch.tensor([[2, 2, 4, 4]]).expand(images, -1),
        "mm_token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.Molmo2ForConditionalGeneration(config)), inputs)
