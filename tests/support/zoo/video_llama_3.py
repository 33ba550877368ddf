"""VideoLLaMA 3: images of any size before a Qwen2 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, count, finish
from support.zoo.grids import grid_inputs


def video_llama_3(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.VideoLlama3Config(
        vision_config={**TOWER, "patch_size": 4},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )
    inputs = grid_inputs(plan, 48)
    del inputs["mm_token_type_ids"]
    inputs["image_merge_sizes"] = torch.full((count(plan),), 2)
    return Zoo(finish(hf.VideoLlama3ForConditionalGeneration(config)), inputs)
