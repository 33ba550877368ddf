"""Kosmos-2 and Kosmos-2.5: queries of an image in places that a mask of the input marks; sinusoidal positions."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import IMAGE, LAYERS, PAD, PLAN, START, TOWER, VOCAB, Plan, Zoo, count, finish, noise, prompts
from torch import Tensor

QUERIES = 12
DECODER = {
    "embed_dim": 64,
    "ffn_dim": 96,
    "layers": LAYERS,
    "attention_heads": 4,
    "vocab_size": VOCAB,
    "pad_token_id": PAD,
    "bos_token_id": START,
    "eos_token_id": None,
    "init_std": 0.12,
    "scale_embedding": False,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def kosmos2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Kosmos2Config(
        text_config=DECODER,
        vision_config={**TOWER, "image_size": 16, "patch_size": 4, "initializer_range": 0.1},
        latent_query_num=QUERIES,
    )
    inputs = {**_batch(plan), "pixel_values": noise(count(plan), 3, 16, 16)}
    return _zoo(hf.Kosmos2ForConditionalGeneration(config), inputs)


def kosmos2_5(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {**TOWER, "patch_embed_hidden_size": 3 * 16, "head_dim": 16, "max_num_patches": 64}
    config = hf.Kosmos2_5Config(text_config=DECODER, vision_config=tower, latent_query_num=QUERIES)
    sides = torch.arange(4)
    places = torch.stack([sides.repeat_interleave(4), sides.repeat(4)], 1).float() + 1
    patches = torch.cat([places.expand(count(plan), -1, -1), noise(count(plan), 16, 3 * 16)], 2)
    sizes = torch.full((count(plan),), 4)
    return _zoo(
        hf.Kosmos2_5ForConditionalGeneration(config),
        {**_batch(plan), "flattened_patches": patches, "width": sizes, "height": sizes},
    )


def _batch(plan: Plan) -> dict[str, Tensor]:
    batch = prompts([QUERIES] * count(plan), plan)
    return {**batch, "image_embeds_position_mask": (batch["input_ids"] == IMAGE).long()}


def _zoo(model: Any, inputs: dict[str, Tensor]) -> Zoo:
    model.image_to_text_projection.latent_query.data = noise(*model.image_to_text_projection.latent_query.shape)
    zoo = Zoo(finish(model), inputs)
    model.text_model.generation_config = model.generation_config  # it is the one that generates
    return zoo
