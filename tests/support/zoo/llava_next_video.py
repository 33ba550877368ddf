"""LLaVA-NeXT-Video: pooled frames."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, count, finish, noise, prompts
from support.zoo.llava_next import PINPOINTS

FRAMES, POOLED = 3, 4


def llava_next_video(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.LlavaNextVideoConfig(
        vision_config=CLIP,
        text_config={"model_type": "llama", **TEXT},
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
        spatial_pool_stride=2,
    )
    videos = count(plan)
    batch = prompts([FRAMES * POOLED] * videos, plan, placeholder=VIDEO)
    inputs = {**batch, "pixel_values_videos": noise(videos, FRAMES, 3, 16, 16)}
    return Zoo(finish(hf.LlavaNextVideoForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
