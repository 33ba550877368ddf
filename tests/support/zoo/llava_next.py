"""LLaVA-NeXT: tiles by the shape of the image, so unequal numbers of tokens; newlines carry the image id too."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts

PINPOINTS = [[16, 32], [32, 16], [32, 32]]
SIZES = [[16, 32], [32, 32], [32, 14]]


def llava_next(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.LlavaNextConfig(
        vision_config={**CLIP, "patch_size": 8},
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-1,
    )
    model = finish(hf.LlavaNextForConditionalGeneration(config))
    images = count(plan)
    pixels, sizes = noise(images, 5, 3, 16, 16), torch.tensor(SIZES[:images])
    features = model.model.get_image_features(pixels, sizes, return_dict=True).pooler_output
    batch = prompts([len(f) for f in features], plan)
    return Zoo(model, {**batch, "pixel_values": pixels, "image_sizes": sizes})
