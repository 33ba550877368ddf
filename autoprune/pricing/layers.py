"""Shapes of decoder layers, read from a text config: one row for each family whose structure is written down here.

Every row is checked against an operation counter, and a family without one is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoprune.errors import ModelError

GATED, PLAIN = 3, 2  # weight matrices of a feed-forward block


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer. All ``*_macs`` are multiply-adds.

    Attributes:
        hidden: Width of the residual stream.
        heads: Query heads.
        head_dim: Width of a query and a key of one head.
        value_dim: Width of a value of one head.
        input_macs: Projections of one token that come before its attention: query, key, value.
        output_macs: Projections of one token behind its attention: output, and a gate where there is one.
        ffn_macs: Feed-forward block for one token; in a mixture of experts the active and shared ones and the router.
        kv_width: Numbers in one cache entry, key and value together.
        key_macs: What each cached entry costs whenever it is attended to: a latent cache is expanded in every pass.
        window: Sliding attention window, or length of a chunk, in tokens, or None. It bounds the cache, not the
            prefill's n x n.
    """

    hidden: int
    heads: int
    head_dim: int
    value_dim: int
    input_macs: int
    output_macs: int
    ffn_macs: int
    kv_width: int
    key_macs: int = 0
    window: int | None = None

    @property
    def qkv_macs(self) -> int:
        """Everything that one token costs up to its query and key."""
        return self.input_macs + self.key_macs

    @property
    def projection_macs(self) -> int:
        """Projections of one token, before its attention and behind it."""
        return self.input_macs + self.output_macs

    def attention_macs(self, queries: int, keys: int) -> int:
        """QK^T and AV, and the expansion of the keys where they are latent."""
        return queries * keys * self.heads * (self.head_dim + self.value_dim) + keys * self.key_macs

    def cached(self, tokens: int) -> int:
        """Entries that the cache holds once `tokens` went through the layer (a sliding layer keeps window - 1)."""
        return tokens if self.window is None else min(tokens, self.window - 1)


def layer_shapes(text: Any) -> tuple[LayerShape, ...]:
    """The decoder layers of a text config, first to last.

    Raises:
        ModelError: the structure of the decoder or of a layer is not known.
    """
    if text.model_type not in _FFN:
        raise ModelError(
            "the structure of this decoder is not known, so its FLOPs would be a guess",
            field="model_type",
            value=text.model_type,
            remedy="priced are " + ", ".join(sorted(_FFN)),
        )
    attention, ffn_macs = _ATTENTION.get(text.model_type, _grouped), _FFN[text.model_type]
    return tuple(
        LayerShape(hidden=text.hidden_size, ffn_macs=ffn_macs(text, i), window=window, **attention(text, i))
        for i, window in enumerate(_windows(text))
    )


def _windows(text: Any) -> list[int | None]:
    """The sliding window of each layer, by the rule that transformers' own cache follows."""
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        kinds = ["full_attention" if window is None else "sliding_attention"] * text.num_hidden_layers
    lengths = {
        "full_attention": None,
        "sliding_attention": window,
        "chunked_attention": getattr(text, "attention_chunk_size", None),
    }
    if unknown := set(kinds) - set(lengths):
        raise ModelError(
            "layers of this kind cannot be priced",
            field="layer_types",
            value=", ".join(sorted(unknown)),
            remedy="only full, sliding and chunked attention layers are known",
        )
    return [lengths[kind] for kind in kinds]


# -- attention ---------------------------------------------------------------------------------------------------------


def _heads(text: Any, heads: int, kv_heads: int, gate_before: int = 0, gate_behind: int = 0) -> dict[str, int]:
    """Attention of `heads` queries to `kv_heads` keys and values; gates are numbers of one token."""
    hidden = text.hidden_size
    dim = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    return {
        "heads": heads,
        "head_dim": dim,
        "value_dim": dim,
        "input_macs": hidden * ((heads + 2 * kv_heads) * dim + gate_before),
        "output_macs": hidden * (heads * dim + gate_behind),
        "kv_width": 2 * kv_heads * dim,
    }


def _grouped(text: Any, _: int) -> dict[str, int]:
    heads = text.num_attention_heads
    return _heads(text, heads, getattr(text, "num_key_value_heads", None) or heads)


def _ungrouped(text: Any, _: int) -> dict[str, int]:
    """One key per query, whatever else the config says."""
    return _heads(text, text.num_attention_heads, text.num_attention_heads)


def _gated(text: Any, _: int) -> dict[str, int]:
    """The output is gated number by number."""
    heads = text.num_attention_heads
    return _heads(text, heads, text.num_key_value_heads, gate_behind=heads * text.head_dim)


def _step(text: Any, index: int) -> dict[str, int]:
    """Layers have heads of their own number; each head has a gate."""
    own = text.per_layer_config[index]
    return _heads(own, own.num_attention_heads, own.num_key_value_heads, gate_before=own.num_attention_heads)


def _gemma4(text: Any, index: int) -> dict[str, int]:
    """Full layers have heads of their own width, and keys for values where the config says so; some reuse both."""
    own, heads = text.per_layer_config[index], text.num_attention_heads
    dim, kv_heads = own.head_dim, own.num_key_value_heads
    reused = text.kv_sharing_modes[index] == "reuse"
    one = text.attention_k_eq_v and text.layer_types[index] != "sliding_attention"
    projected = 0 if reused else (1 if one else 2) * kv_heads
    return {
        "heads": heads,
        "head_dim": dim,
        "value_dim": dim,
        "input_macs": text.hidden_size * (heads + projected) * dim,
        "output_macs": text.hidden_size * heads * dim,
        "kv_width": 0 if reused else 2 * kv_heads * dim,
    }


def _latent(text: Any, _: int) -> dict[str, int]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), its cache compressed."""
    hidden, heads, rank, rope = text.hidden_size, text.num_attention_heads, text.kv_lora_rank, text.qk_rope_head_dim
    dim, low = text.qk_nope_head_dim + rope, text.q_lora_rank
    query = hidden * heads * dim if low is None else low * (hidden + heads * dim)
    return {
        "heads": heads,
        "head_dim": dim,
        "value_dim": text.v_head_dim,
        "input_macs": query + hidden * (rank + rope),
        "output_macs": heads * text.v_head_dim * hidden,
        "kv_width": rank + rope,
        "key_macs": rank * heads * (text.qk_nope_head_dim + text.v_head_dim),
    }


_ATTENTION: dict[str, Callable[[Any, int], dict[str, int]]] = {
    "deepseek_v3": _latent,
    "gemma4_text": _gemma4,
    "gemma4_unified_text": _gemma4,
    "kosmos_2_5_text_model": _ungrouped,
    "kosmos_2_text_model": _ungrouped,
    "mistral4": _latent,
    "muse_glimmer_text": _gated,
    "muse_spark_text": _gated,
    "opt": _ungrouped,
    "persimmon": _ungrouped,
    "step3p5": _step,
}
"""How families attend that do it otherwise than with grouped heads."""


# -- feed-forward ------------------------------------------------------------------------------------------------------


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
    "hyperclovax", "llama", "mistral", "molmo2_text", "muse_glimmer_text", "olmo2", "paddleocr_vl_text", "phi3",
    "qwen2", "qwen2_vl_text", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text", "smollm3",
)  # fmt: skip
_PLAIN_FAMILIES = ("cosmos3_edge_text", "persimmon", "phi", "starcoder2")

_FFN: dict[str, Callable[[Any, int], int]] = {
    **dict.fromkeys(_GATED_FAMILIES, _dense(GATED)),
    **dict.fromkeys(_PLAIN_FAMILIES, _dense(PLAIN)),
    **dict.fromkeys(("kosmos_2_text_model", "kosmos_2_5_text_model", "opt"), _dense(PLAIN, "ffn_dim")),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_omni_moe_text", "qwen3_vl_moe_text"), _qwen_moe),
    **dict.fromkeys(("deepseek_ocr2_text", "deepseek_v3", "glm4v_moe_text", "mistral4", "step3p5"), _deepseek),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), _gemma4_blocks),
    "aria_text": _aria,
    "llama4_text": _llama4,
    "mixtral": _mixtral,
    "muse_spark_text": _muse_spark,
}
"""Multiply-adds of one token in the feed-forward block of one layer, by text model type."""
