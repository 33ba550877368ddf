"""Chameleon: images are words of a codebook, put in the places of one placeholder id."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts

CODES = 48
FIRST_CODE = 128


def chameleon(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    names = {f"IMGIMG{''.join(chr(ord('A') + int(d)) for d in str(i))}Z": FIRST_CODE + i for i in range(CODES)}
    codebook = {
        "embed_dim": 8,
        "num_embeddings": CODES,
        "latent_channels": 8,
        "resolution": 16,
        "base_channels": 32,
        "channel_multiplier": [1, 1, 1],
        "num_res_blocks": 1,
    }
    config = hf.ChameleonConfig(
        **{**TEXT, "vocab_size": FIRST_CODE + CODES}, vq_config=codebook, vocabulary_map={"<image>": IMAGE, **names}
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    model = finish(hf.ChameleonForConditionalGeneration(config))
    book = model.model.vqmodel
    with torch.no_grad():  # a random codebook would give most patches the same word
        patches = book.quant_conv(book.encoder(inputs["pixel_values"])).permute(0, 2, 3, 1)
        book.quantize.embedding.weight[: patches[..., 0].numel()] = patches.flatten(0, 2)
    return Zoo(model, inputs)
