"""Kinds of models that cannot be pruned exactly, each with the reason that its refusal gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ENCODER = "the decoder reads it by cross-attention"
CROSS_ATTENTION = "it sees the image by cross-attention, not as tokens"
INDEXED = "layers of type indexed_attention"
WITHOUT_LAYERS = "has no get_decoder() with .layers"


@dataclass(frozen=True)
class Refused:
    """A model type of transformers, built with its default config.

    Attributes:
        reason: What the error says.
        config: Settings that differ from the default ones.
    """

    reason: str
    config: dict[str, Any] = field(default_factory=dict)


REFUSED = {
    "blip": Refused(CROSS_ATTENTION),
    "diffusion_gemma": Refused(
        "block diffusion",
        {"text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32, "num_hidden_layers": 2}},
    ),
    "dots3_note": Refused(INDEXED),
    "evolla": Refused(CROSS_ATTENTION),
    "florence2": Refused(ENCODER),
    "git": Refused(WITHOUT_LAYERS),
    "glm5_next": Refused(INDEXED),
    "idefics": Refused(CROSS_ATTENTION),
    "inkling2": Refused("layers of type hybrid, hybrid_sliding"),
    "inkling_mm_model": Refused("layers of type hybrid, hybrid_sliding"),
    "minimax_m3_vl": Refused(
        "layers of type minimax_m3_sparse",
        {"text_config": {"layer_types": ["full_attention", "minimax_m3_sparse"], "num_hidden_layers": 2}},
    ),
    "mistral_large4": Refused(INDEXED),
    "mllama": Refused(CROSS_ATTENTION),
    "nemotron_h_omni": Refused("decoder layer 0 (NemotronHBlock) has no self_attn"),
    "pi0": Refused(WITHOUT_LAYERS),
    "pix2struct": Refused(ENCODER),
    "pp_formulanet": Refused(ENCODER),
    "qwen4_exp": Refused(
        INDEXED,
        {
            "text_config": {
                "indexer_n_heads": 2,
                "indexer_kv_heads": 1,
                "indexer_head_dim": 256,
                "indexer_budget": 8,
                "indexer_compress_ratio": 4,
                "num_hidden_layers": 4,
                "num_experts": 4,
                "num_experts_per_tok": 2,
            }
        },
    ),
    "t5gemma2": Refused(ENCODER),
    "udop": Refused(ENCODER),
    "unlimited_ocr": Refused("layers of type reference_sliding_attention"),
    "vision-encoder-decoder": Refused(
        ENCODER,
        {
            "encoder": {"model_type": "vit"},
            "decoder": {"model_type": "bert", "is_decoder": True, "add_cross_attention": True},
        },
    ),
}
