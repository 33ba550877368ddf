"""HunyuanVL: rows of tokens that end in newlines, positions of four axes."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def hunyuan_vl(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}
    config = hf.HunYuanVLConfig(
        text_config={**TEXT, "head_dim": 16, "rope_parameters": rope},
        vision_config={
            **TOWER,
            "num_key_value_heads": 2,
            "out_hidden_size": 64,
            "text_hidden_size": 64,
            "patch_size": 4,
            "max_image_size": 32,
            "min_image_size": 8,
            "img_max_token_num": 64,
        },
        image_token_id=IMAGE,
    )
    grid = torch.tensor([[1, 8, 8], [1, 4, 8], [1, 8, 4]])[: count(plan)]
    height, width = (grid[:, 1:] // 2).unbind(1)
    batch = prompts((height * (width + 1) + 2).tolist(), plan)
    inputs = {
        **batch,
        "pixel_values": noise(int(grid.prod(1).sum()), 48),
        "image_grid_thw": grid,
        "mm_token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.HunYuanVLForConditionalGeneration(config)), inputs)
