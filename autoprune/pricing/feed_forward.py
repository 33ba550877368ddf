"""Feed-forward blocks of decoder layers, read from a text config: dense ones and mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GATED, PLAIN = 3, 2  # weight matrices of a block


def _dense(matrices: int, width: str = "intermediate_size") -> Callable[[Any, int], int]:
    return lambda text, _: int(matrices * text.hidden_size * getattr(text, width))


def _experts(hidden: int, width: int, active: int, routed: int, shared: int = 0) -> int:
    """A router over `routed` experts, `active` of them of some width, and a shared one of another."""
    return int(hidden * (GATED * (active * width + shared) + routed))


def _mixtral(text: Any, _: int) -> int:
    return _experts(text.hidden_size, text.intermediate_size, text.num_experts_per_tok, text.num_local_experts)


def _aria(text: Any, _: int) -> int:
    width = text.intermediate_size
    shared = text.moe_num_shared_experts * width
    return _experts(text.hidden_size, width, text.moe_topk, text.moe_num_experts, shared)


def _qwen_moe(text: Any, index: int) -> int:
    sparse = index not in (text.mlp_only_layers or ()) and (index + 1) % text.decoder_sparse_step == 0
    if not sparse or not text.num_experts:
        return int(GATED * text.hidden_size * text.intermediate_size)
    shared = getattr(text, "shared_expert_intermediate_size", None) or 0
    experts = text.num_experts + bool(shared)  # the shared expert has a one-column gate of its own
    return _experts(text.hidden_size, text.moe_intermediate_size, text.num_experts_per_tok, experts, shared)


def _qwen3_5_moe(text: Any, _: int) -> int:
    experts, shared = text.num_experts + 1, text.shared_expert_intermediate_size  # the shared one has a gate of its own
    return _experts(text.hidden_size, text.moe_intermediate_size, text.num_experts_per_tok, experts, shared)


def _ernie(visual: bool) -> Callable[[Any, int], int]:
    """Words and images have routers and experts of their own, and share the shared experts."""

    def macs(text: Any, index: int) -> int:
        if text.mlp_layer_types[index] == "dense":
            return int(GATED * text.hidden_size * text.intermediate_size)
        widths = text.moe_intermediate_size
        shared = text.moe_num_shared_experts * widths[0]
        return _experts(text.hidden_size, widths[visual], text.moe_k, text.moe_num_experts, shared)

    return macs


def _lfm2(text: Any, _: int) -> int:
    """The width that the config names, or two thirds of it, scaled and rounded up to whole blocks."""
    width = text.intermediate_size
    if text.block_auto_adjust_ff_dim:
        width = int(2 * width / 3)
        if text.block_ffn_dim_multiplier is not None:
            width = -(-int(text.block_ffn_dim_multiplier * width) // text.block_multiple_of) * text.block_multiple_of
    return int(GATED * text.hidden_size * width)


def _deepseek(text: Any, index: int) -> int:
    """The first layers are dense."""
    kinds = getattr(text, "mlp_layer_types", None)
    dense = kinds[index] == "dense" if kinds else index < getattr(text, "first_k_dense_replace", 0)
    if dense:
        return int(GATED * text.hidden_size * text.intermediate_size)
    width = text.moe_intermediate_size
    shared = text.share_expert_dim if hasattr(text, "share_expert_dim") else (text.n_shared_experts or 0) * width
    active, routed = text.num_experts_per_tok or 0, text.n_routed_experts or 0  # None: no experts
    return _experts(text.hidden_size, width, active, routed, shared)


def _muse_spark(text: Any, index: int) -> int:
    """The experts work in a narrower stream."""
    if text.mlp_layer_types[index] == "dense":
        return int(GATED * text.hidden_size * text.intermediate_size)
    inner = text.moe_hidden_size
    active = GATED * text.num_experts_per_tok * text.moe_intermediate_size * inner
    return int(active + text.hidden_size * (2 * inner + text.num_local_experts))


def _llama4(text: Any, index: int) -> int:
    """As transformers computes it: every expert on every token, most of them weighed with 0."""
    if index not in text.moe_layers:
        return int(GATED * text.hidden_size * text.intermediate_size_mlp)
    width, experts = text.intermediate_size, text.num_local_experts
    return _experts(text.hidden_size, width, experts, experts, width)


def _gemma4_blocks(text: Any, index: int) -> int:
    """Experts beside the dense block, and the input that each layer has of its own."""
    wide = text.use_double_wide_mlp and text.kv_sharing_modes[index] == "reuse"
    macs = GATED * text.hidden_size * text.intermediate_size * (2 if wide else 1)
    macs += 2 * text.hidden_size * (getattr(text, "hidden_size_per_layer_input", None) or 0)
    if getattr(text, "enable_moe_block", False):
        macs += _experts(text.hidden_size, text.moe_intermediate_size, text.top_k_experts, text.num_experts)
    return int(macs)


_GATED_FAMILIES = (
    "chameleon", "cohere2", "cohere_compass_text", "emu3_text_model", "exaone4", "gemma", "gemma2", "gemma3_text",
    "glm4", "glm4v_text", "glm_ocr_text", "granite", "granite4_vision_text", "granite_docling_text", "hunyuan_vl_text",
    "hyperclovax", "lfm3", "llama", "mistral", "molmo2_text", "muse_glimmer_text", "olmo2", "paddleocr_vl_text", "phi3",
    "qwen2", "qwen2_vl_text", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen3", "qwen3_5_text", "qwen3_vl_text",
    "smollm3",
)  # fmt: skip
_PLAIN_FAMILIES = ("cosmos3_edge_text", "persimmon", "phi", "starcoder2")

FEED_FORWARD: dict[str, Callable[[Any, int], int]] = {
    **dict.fromkeys(_GATED_FAMILIES, _dense(GATED)),
    **dict.fromkeys(_PLAIN_FAMILIES, _dense(PLAIN)),
    **dict.fromkeys(("kosmos_2_text_model", "kosmos_2_5_text_model", "opt"), _dense(PLAIN, "ffn_dim")),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_omni_moe_text", "qwen3_vl_moe_text"), _qwen_moe),
    **dict.fromkeys(("deepseek_ocr2_text", "deepseek_v3", "glm4v_moe_text", "mistral4", "step3p5"), _deepseek),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), _gemma4_blocks),
    "aria_text": _aria,
    "ernie4_5_vl_moe_text": _ernie(visual=False),
    "lfm2": _lfm2,
    "llama4_text": _llama4,
    "mixtral": _mixtral,
    "muse_spark_text": _muse_spark,
    "qwen3_5_moe_text": _qwen3_5_moe,
}
"""Multiply-adds of one token in the feed-forward block of one layer, by text model type."""

VISUAL_FEED_FORWARD: dict[str, Callable[[Any, int], int]] = {"ernie4_5_vl_moe_text": _ernie(visual=True)}
"""The same for visual tokens, where they go to experts of their own."""
