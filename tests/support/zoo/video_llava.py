"""Video-LLaVA: every patch of every frame, its class token too."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, count, finish, noise, prompts

FRAMES, TOKENS = 4, 5


def video_llava(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.VideoLlavaConfig(
        vision_config={**CLIP, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT},
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_seq_length=TOKENS,
        video_seq_length=FRAMES * TOKENS,
        vision_feature_layer=-1,
    )
    videos = count(plan)
    batch = prompts([FRAMES * TOKENS] * videos, plan, placeholder=VIDEO)
    inputs = {**batch, "pixel_values_videos": noise(videos, FRAMES, 3, 16, 16)}
    return Zoo(finish(hf.VideoLlavaForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
