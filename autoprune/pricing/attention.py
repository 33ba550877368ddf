"""Attention of decoder layers, read from a text config: grouped heads, and how families attend that do it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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


def grouped(text: Any, _: int) -> dict[str, int]:
    """Queries in groups that share a key and a value."""
    heads = text.num_attention_heads
    return _heads(text, heads, getattr(text, "num_key_value_heads", None) or heads)


def _ungrouped(text: Any, _: int) -> dict[str, int]:
    """One key per query, whatever else the config says."""
    return _heads(text, text.num_attention_heads, text.num_attention_heads)


def _gated(text: Any, _: int) -> dict[str, int]:
    """The output is gated number by number."""
    heads = text.num_attention_heads
    return _heads(text, heads, text.num_key_value_heads, gate_behind=heads * text.head_dim)


def _double(text: Any, _: int) -> dict[str, int]:
    """The gate comes out of the projection of the query."""
    heads = text.num_attention_heads
    return _heads(text, heads, text.num_key_value_heads, gate_before=heads * text.head_dim)


def _gated_heads(text: Any, _: int) -> dict[str, int]:
    """Each head of the output has a gate, where the config says so."""
    heads = text.num_attention_heads
    return _heads(text, heads, text.num_key_value_heads, gate_behind=heads if text.use_attention_gate else 0)


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


ATTENTION: dict[str, Callable[[Any, int], dict[str, int]]] = {
    "deepseek_v3": _latent,
    "gemma4_text": _gemma4,
    "gemma4_unified_text": _gemma4,
    "kosmos_2_5_text_model": _ungrouped,
    "kosmos_2_text_model": _ungrouped,
    "lfm3": _gated_heads,
    "mistral4": _latent,
    "muse_glimmer_text": _gated,
    "muse_spark_text": _gated,
    "opt": _ungrouped,
    "persimmon": _ungrouped,
    "qwen3_5_moe_text": _double,
    "qwen3_5_text": _double,
    "step3p5": _step,
}
"""How families attend that do it otherwise than with grouped heads."""
