"""Emu3: images are rows of codebook words, each with an end of line, put in the places of one placeholder id."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts

CODES = 1024
FIRST_CODE = 128


def emu3(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    names = {f"<|visual token {i:06d}|>": FIRST_CODE + i for i in range(CODES)}
    codebook = {
        "codebook_size": CODES,
        "embed_dim": 4,
        "temporal_downsample_factor": 1,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [1],
        "hidden_size": 32,
    }
    config = hf.Emu3Config(
        vq_config=codebook,
        text_config={**TEXT, "vocab_size": FIRST_CODE + CODES},
        vocabulary_map={"<image>": IMAGE, "<|extra_200|>": AFTER, **names},
    )
    images = count(plan)
    side, cells = 8, 4
    inputs = {
        **prompts([cells * (cells + 1)] * images, plan),
        "pixel_values": 10 * noise(images, 3, side, side),
        "image_sizes": torch.tensor([[side, side]] * images),
    }
    return Zoo(finish(hf.Emu3ForConditionalGeneration(config)), inputs)
