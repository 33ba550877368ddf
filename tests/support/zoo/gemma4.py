"""Gemma 4: windows in which images see both ways, inputs of each layer's own, experts; no shared keys and values."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import (
    AFTER,
    BEFORE,
    IMAGE,
    PLAN,
    TEXT,
    TOWER,
    VIDEO,
    VOCAB,
    Plan,
    Zoo,
    count,
    finish,
    noise,
    prompts,
)
from torch import Tensor

DECODER = {
    **TEXT,
    "initializer_range": 0.1,
    "head_dim": 16,
    "global_head_dim": 24,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "use_bidirectional_attention": "vision",
}
IDS = {
    "boi_token_id": BEFORE,
    "eoi_token_id": AFTER,
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "audio_token_id": 9,
}
SHAPES = [(4, 4), (4, 2), (2, 4)]
"""Tokens of an image (or of each frame), across and down."""


def gemma4(plan: Plan = PLAN, seed: int = 0, video: bool = False, shared: int = 0) -> Zoo:
    """The 2 B and 4 B models: each layer has inputs of its own.

    Args:
        plan: Images or videos of each sample.
        seed: Of the weights.
        video: Whether they are videos, of two frames each.
        shared: How many of the last layers read the keys and values of an earlier one.
    """
    own = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB}
    return _with_tower({**DECODER, **own, "num_kv_shared_layers": shared}, plan, seed, video)


def gemma4_moe(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    """The 26 B model: experts beside the MLP, values that are the keys in full attention."""
    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
    tied = {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0}
    return _with_tower({**DECODER, **experts, **tied}, plan, seed)


def gemma4_unified(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    """Without a tower: patches are projected into the decoder."""
    torch.manual_seed(seed)
    embedder = {"patch_size": 4, "pooling_kernel_size": 2, "mm_embed_dim": 64, "mm_posemb_size": 16}
    config = hf.Gemma4UnifiedConfig(
        vision_config={**embedder, "output_proj_dims": 64},
        text_config=DECODER,
        initializer_range=DECODER["initializer_range"],
        tie_word_embeddings=False,
        **IDS,
    )
    return Zoo(_softened(hf.Gemma4UnifiedForConditionalGeneration(config)), _inputs(plan, width=3 * 64, pooled=1))


def _with_tower(text: dict[str, Any], plan: Plan, seed: int, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    tower = {**TOWER, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "pooling_kernel_size": 2}
    config = hf.Gemma4Config(
        vision_config={**tower, "position_embedding_size": 16},
        text_config=text,
        initializer_range=DECODER["initializer_range"],
        tie_word_embeddings=False,
        **IDS,
    )
    model = _softened(hf.Gemma4ForConditionalGeneration(config))
    return Zoo(model, _inputs(plan, width=3 * 16, pooled=2, video=video), (IMAGE, VIDEO))


def _softened(model: Any) -> Any:
    """Finished, but no sharper: its scores are not divided by the square root of a head's width."""
    finish(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                weight.sub_(1.0)
    return model


def _inputs(plan: Plan, width: int, pooled: int, video: bool = False) -> dict[str, Tensor]:
    """Images are rows of patches, padded, with the place of each patch; `pooled` squared of them make a token."""
    shapes, frames = SHAPES[: count(plan)], 2 if video else 1
    places = [
        torch.cartesian_prod(torch.arange(down * pooled), torch.arange(across * pooled)).flip(1)
        for across, down in shapes
        for _ in range(frames)
    ]
    padded = torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1)
    pixels = noise(*padded.shape[:2], width)
    tokens = [across * down * frames for across, down in shapes]
    batch = prompts(tokens, plan, [BEFORE], [AFTER], VIDEO if video else IMAGE)
    batch["mm_token_type_ids"] = (batch["input_ids"] == IMAGE).int() + 2 * (batch["input_ids"] == VIDEO).int()
    if not video:
        return {**batch, "pixel_values": pixels, "image_position_ids": padded}
    per_video = torch.full((len(shapes),), frames)
    return {**batch, "pixel_values_videos": pixels, "video_position_ids": padded, "num_frames_per_video": per_video}
