"""LLaVA-OneVision: tiles for a single image, one view for each of several; videos pooled, with a newline at the end."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, SIGLIP, TEXT, VIDEO, Plan, Zoo, count, finish, noise, prompts
from support.zoo.llava_next import PINPOINTS, SIZES

FRAMES, POOLED = 3, 4


def llava_onevision(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    config = hf.LlavaOnevisionConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
    )
    model = finish(hf.LlavaOnevisionForConditionalGeneration(config))
    shown = count(plan)
    if video:
        batch = prompts([FRAMES * POOLED + 1] * shown, plan, placeholder=VIDEO)
        inputs = {**batch, "pixel_values_videos": noise(shown, FRAMES, 3, 16, 16)}
        return Zoo(model, inputs, (IMAGE, VIDEO))
    images = {
        "pixel_values": noise(shown, 5, 3, 16, 16),
        "image_sizes": torch.tensor(SIZES[:shown]),
        "batch_num_images": torch.tensor([len(sample) for sample in plan]),
    }
    features = model.model.get_image_features(**images, return_dict=True).pooler_output
    return Zoo(model, {**prompts([len(f) for f in features], plan), **images}, (IMAGE, VIDEO))
