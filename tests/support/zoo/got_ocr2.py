"""GOT-OCR 2, and PP-Chart2Table, which is the same model: a page in one square of tokens before a Qwen2 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def got_ocr2(plan: Plan = PLAN, seed: int = 0, config: type[hf.PreTrainedConfig] = hf.GotOcr2Config) -> Zoo:
    torch.manual_seed(seed)
    tower = {
        **TOWER,
        "output_channels": 16,
        "image_size": 64,
        "patch_size": 4,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 48,
        "initializer_range": 0.1,
    }
    made = config(vision_config=tower, text_config={"model_type": "qwen2", **TEXT}, image_token_index=IMAGE)
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 64, 64)}
    return Zoo(finish(hf.GotOcr2ForConditionalGeneration(made)), inputs)


def pp_chart2table(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    return got_ocr2(plan, seed, hf.PPChart2TableConfig)
