"""Shapes of decoder layers, read from a text config: one row for each family whose structure is written down here.

Every row is checked against an operation counter, and a family without one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoprune.errors import ModelError
from autoprune.pricing.attention import ATTENTION, grouped
from autoprune.pricing.feed_forward import FEED_FORWARD, VISUAL_FEED_FORWARD
from autoprune.pricing.recurrence import RECURRENT, Recurrence


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer. All ``*_macs`` are multiply-adds.

    Attributes:
        hidden: Width of the residual stream.
        input_macs: Projections of one token that come before its attention or recurrence: query, key, value.
        output_macs: Projections of one token behind it: output, and a gate where there is one.
        ffn_macs: Feed-forward block for one token; in a mixture of experts the active and shared ones and the router.
        visual_ffn_macs: The same for a visual token, which has experts of its own in some families.
        heads: Query heads; 0 in a recurrent layer.
        head_dim: Width of a query and a key of one head.
        value_dim: Width of a value of one head.
        kv_width: Numbers in one cache entry, key and value together.
        key_macs: What each cached entry costs whenever it is attended to: a latent cache is expanded in every pass.
        window: Sliding attention window, or length of a chunk, in tokens, or None. It bounds the cache, not the
            prefill's n x n.
        recurrence: What a layer without attention does along the sequence; None in the others.
    """

    hidden: int
    input_macs: int
    output_macs: int
    ffn_macs: int
    visual_ffn_macs: int
    heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    kv_width: int = 0
    key_macs: int = 0
    window: int | None = None
    recurrence: Recurrence | None = None

    @property
    def qkv_macs(self) -> int:
        """Everything that one token costs up to its query and key."""
        return self.input_macs + self.key_macs

    @property
    def projection_macs(self) -> int:
        """Projections of one token, before its attention or recurrence and behind it."""
        return self.input_macs + self.output_macs

    def mixing_macs(self, tokens: int) -> int:
        """What a prefill does between its tokens: QK^T and AV with the expansion of latent keys, or the recurrence."""
        if self.recurrence is not None:
            return self.recurrence.prefill_macs(tokens)
        return self._attention_macs(tokens, tokens)

    def feed_forward_macs(self, tokens: int, words: int) -> int:
        """The feed-forward block on some tokens, of which `words` go where text goes."""
        return words * self.ffn_macs + (tokens - words) * self.visual_ffn_macs

    def decode_macs(self, tokens: int, steps: int) -> int:
        """The whole layer for `steps` generated tokens, one after the other, behind a prompt of `tokens`."""
        each = steps * (self.projection_macs + self.ffn_macs)
        if self.recurrence is not None:
            return each + steps * self.recurrence.step_macs
        return each + self._attention_macs(1, sum(self.cached(tokens + step) + 1 for step in range(steps)))

    def cached(self, tokens: int) -> int:
        """Entries that the cache holds once `tokens` went through the layer (a sliding layer keeps window - 1)."""
        return tokens if self.window is None else min(tokens, self.window - 1)

    def _attention_macs(self, queries: int, keys: int) -> int:
        return queries * keys * self.heads * (self.head_dim + self.value_dim) + keys * self.key_macs


def layer_shapes(text: Any) -> tuple[LayerShape, ...]:
    """The decoder layers of a text config, first to last.

    Raises:
        ModelError: the structure of the decoder or of a layer is not known.
    """
    if text.model_type not in FEED_FORWARD:
        raise ModelError(
            "the structure of this decoder is not known, so its FLOPs would be a guess",
            field="model_type",
            value=text.model_type,
            remedy="priced are " + ", ".join(sorted(FEED_FORWARD)),
        )
    try:
        return tuple(_layer(text, i, kind) for i, kind in enumerate(_kinds(text)))
    except AttributeError as error:  # older releases of transformers have other fields in the configs of some families
        raise ModelError(
            f"the config of this decoder has no {error.name}, from which its FLOPs are told",
            field="model_type",
            value=text.model_type,
            remedy="install a newer release of transformers",
        ) from error


def _layer(text: Any, index: int, kind: str) -> LayerShape:
    ffn_macs = FEED_FORWARD[text.model_type]
    common: dict[str, Any] = {
        "hidden": text.hidden_size,
        "ffn_macs": ffn_macs(text, index),
        "visual_ffn_macs": VISUAL_FEED_FORWARD.get(text.model_type, ffn_macs)(text, index),
    }
    recurrent = RECURRENT.get(text.model_type, {})
    if kind in recurrent:
        input_macs, output_macs, recurrence = recurrent[kind](text)
        return LayerShape(**common, input_macs=input_macs, output_macs=output_macs, recurrence=recurrence)
    common |= ATTENTION.get(text.model_type, grouped)(text, index)
    return LayerShape(**common, window=_window(text, kind))


def _kinds(text: Any) -> list[str]:
    """What each layer is, by the rule that transformers' own cache follows."""
    kinds: list[str] | None = getattr(text, "layer_types", None)
    if kinds is None:
        sliding = getattr(text, "sliding_window", None) is not None
        kinds = ["sliding_attention" if sliding else "full_attention"] * text.num_hidden_layers
    return kinds


def _window(text: Any, kind: str) -> int | None:
    lengths = {
        "full_attention": None,
        "sliding_attention": getattr(text, "sliding_window", None),
        "chunked_attention": getattr(text, "attention_chunk_size", None),
    }
    if kind not in lengths:
        raise ModelError(
            "layers of this kind cannot be priced",
            field="layer_types",
            value=kind,
            remedy="only full, sliding and chunked attention layers are known, and the recurrent ones of "
            + ", ".join(sorted(RECURRENT)),
        )
    return lengths[kind]
