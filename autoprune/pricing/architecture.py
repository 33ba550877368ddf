"""Shapes of a model, read from its transformers config, as far as a price needs them.

Only families whose structure is written down here are priced; their figures are checked against an operation counter.
An unknown decoder is refused; an unknown vision tower, named in `Architecture.unpriced`, has no price end to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune.errors import ModelError
from autoprune.pricing.vision import VisionShape, vision_shape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

GATED, PLAIN = 3, 2  # weight matrices of a feed-forward block


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer. All ``*_macs`` are multiply-adds.

    Attributes:
        hidden: Width of the residual stream.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of one head; ``heads * head_dim`` need not equal ``hidden``.
        ffn_macs: Feed-forward block for one token; in a mixture of experts the active and shared ones and the router.
        window: Sliding attention window in tokens, or None. It bounds the cache, not the prefill's n x n.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_macs: int
    window: int | None = None

    @property
    def qkv_macs(self) -> int:
        """Query, key and value projections of one token."""
        return self.hidden * (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def projection_macs(self) -> int:
        """Query, key, value and output projections of one token."""
        return self.qkv_macs + self.heads * self.head_dim * self.hidden

    def score_macs(self, queries: int, keys: int) -> int:
        """QK^T alone; attention itself costs twice that (QK^T and AV)."""
        return queries * keys * self.heads * self.head_dim

    def cached(self, tokens: int) -> int:
        """Entries that the cache holds once `tokens` went through the layer (a sliding layer keeps window - 1)."""
        return tokens if self.window is None else min(tokens, self.window - 1)

    @property
    def kv_width(self) -> int:
        """Numbers in one cache entry, key and value together."""
        return 2 * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Architecture:
    """Shapes of the parts of a model that have a price.

    Attributes:
        layers: The decoder layers, first to last.
        head_macs: The head on one row.
        vision: Tower and projector, or None.
        unpriced: What part of the model has no price here; empty if none.
        dtype_bytes: Bytes of one number in the config's dtype, or None if the config names none.
    """

    layers: tuple[LayerShape, ...]
    head_macs: int
    vision: VisionShape | None = None
    unpriced: str = ""
    dtype_bytes: int | None = None

    def vision_flops(self, passes: int) -> int | None:
        """FLOPs of tower and projector in some passes; None if they have no price."""
        if passes and self.unpriced:
            return None
        return 2 * passes * (self.vision.tower_macs + self.vision.projector_macs) if self.vision else 0

    @classmethod
    def from_config(cls, config: PreTrainedConfig) -> Architecture:
        """Shapes of a text-only or multimodal model.

        Raises:
            ModelError: The decoder is of a family whose structure is not known here.
        """
        text = config.get_text_config(decoder=True)
        ffn_macs = _FFN.get(text.model_type)
        if ffn_macs is None:
            raise ModelError(
                "the structure of this decoder is not known, so its FLOPs would be a guess",
                field="model_type",
                value=text.model_type,
                remedy="priced are " + ", ".join(sorted(_FFN)),
            )
        windows = _windows(text)
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        layers = tuple(
            LayerShape(
                hidden=text.hidden_size,
                heads=text.num_attention_heads,
                kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
                head_dim=head_dim,
                ffn_macs=ffn_macs(text, index),
                window=windows[index],
            )
            for index in range(text.num_hidden_layers)
        )
        vision, unpriced = vision_shape(config, text)
        dtype = getattr(text, "dtype", None) or getattr(config, "dtype", None)
        return cls(layers, text.hidden_size * text.vocab_size, vision, unpriced, getattr(dtype, "itemsize", None))


def _windows(text: Any) -> list[int | None]:
    """The sliding window of each layer, by the rule that transformers' own cache follows."""
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        kinds = ["full_attention" if window is None else "sliding_attention"] * text.num_hidden_layers
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown:
        raise ModelError(
            "layers of this kind cannot be priced",
            field="layer_types",
            value=", ".join(sorted(unknown)),
            remedy="only full and sliding attention layers are known",
        )
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _dense(matrices: int) -> Callable[[Any, int], int]:
    return lambda text, _: int(matrices * text.hidden_size * text.intermediate_size)


def _mixtral(text: Any, _: int) -> int:
    active = text.num_experts_per_tok * GATED * text.intermediate_size
    return int(text.hidden_size * (active + text.num_local_experts))


def _qwen_moe(text: Any, index: int) -> int:
    sparse = index not in (text.mlp_only_layers or ()) and (index + 1) % text.decoder_sparse_step == 0
    if not sparse or not text.num_experts:
        return int(GATED * text.hidden_size * text.intermediate_size)
    active = text.num_experts_per_tok * GATED * text.moe_intermediate_size
    shared = getattr(text, "shared_expert_intermediate_size", None)
    gate = GATED * shared + 1 if shared else 0  # the shared expert has a one-column gate of its own
    return int(text.hidden_size * (active + text.num_experts + gate))


_GATED_FAMILIES = (
    "cohere2", "cohere_compass_text", "emu3_text_model", "exaone4", "gemma", "gemma2", "gemma3_text", "glm4",
    "glm4v_text", "glm_ocr_text", "granite", "granite4_vision_text", "granite_docling_text", "hunyuan_vl_text",
    "hyperclovax", "llama", "mistral", "molmo2_text", "olmo2", "paddleocr_vl_text", "phi3", "qwen2", "qwen2_vl_text",
    "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text", "smollm3",
)  # fmt: skip
_PLAIN_FAMILIES = ("cosmos3_edge_text", "phi", "starcoder2")

# Multiply-adds of one token in the feed-forward block of one layer, by text model type.
_FFN: dict[str, Callable[[Any, int], int]] = {
    **dict.fromkeys(_GATED_FAMILIES, _dense(GATED)),
    **dict.fromkeys(_PLAIN_FAMILIES, _dense(PLAIN)),
    "mixtral": _mixtral,
    "qwen2_moe": _qwen_moe,
    "qwen3_moe": _qwen_moe,
    "qwen3_omni_moe_text": _qwen_moe,
    "qwen3_vl_moe_text": _qwen_moe,
}
