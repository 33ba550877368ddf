"""The cache of a model, layer by layer: which layers were pruned, what they hold, which kinds are refused."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
    LinearAttentionLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from autoprune.errors import PatchError
from autoprune.runtime.cache_layers import (
    Pruned,
    PrunedLayer,
    PrunedSlidingLayer,
    PrunedStaticLayer,
    PrunedStaticSlidingLayer,
)

_PRUNED: dict[type, Any] = {
    DynamicLayer: PrunedLayer,
    DynamicSlidingWindowLayer: PrunedSlidingLayer,
    StaticLayer: PrunedStaticLayer,
    StaticSlidingWindowLayer: PrunedStaticSlidingLayer,
}
_KNOWN = {*_PRUNED, *_PRUNED.values(), LinearAttentionLayer}


def check_cache(cache: Cache | None) -> None:
    """Refuse caches whose layers cannot hold survivors only.

    Raises:
        PatchError: the cache is not made of plain dynamic, static or recurrent layers.
    """
    if cache is None:
        return
    later = getattr(cache, "layer_class_to_replicate", None)
    kinds = {later or DynamicLayer, *map(type, getattr(cache, "layers", ()))}
    if not isinstance(cache, Cache) or isinstance(cache, EncoderDecoderCache):
        kinds = {type(cache)}
    for kind in kinds - _KNOWN:
        if not issubclass(kind, Pruned):
            raise PatchError(
                "this kind of cache cannot be pruned",
                field="past_key_values",
                value=kind.__name__,
                remedy="generate with the default dynamic cache or a static one",
            )


def mark_pruned(
    cache: Cache, i: int, columns: Tensor, filled: Tensor, length: int, all_filled: bool, shift: Tensor | None = None
) -> None:
    """Record in layer `i` of the cache which logical columns its entries are; arguments as `Pruned` has them."""
    layer: Any = cache.layers[i]
    if not isinstance(layer, Pruned):
        # A new object that shares the state: Python refuses to change the class of an existing one.
        kind = _PRUNED[type(layer)]
        pruned = kind.__new__(kind)
        pruned.__dict__ = layer.__dict__
        cache.layers[i] = layer = pruned
    layer.columns, layer.filled, layer.all_filled = columns, filled, all_filled
    layer.next_column = layer.length = length
    layer.shift = shift


def past_length(cache: Cache | None) -> int:
    """Logical columns that the cache holds; read on the host where a pruned layer knows."""
    for layer in getattr(cache, "layers", ()):
        if isinstance(layer, Pruned) and layer.next_column:
            return layer.length
    return int(cache.get_seq_length()) if cache is not None else 0


def layer_at(cache: Cache | None, i: int) -> Any:
    """Layer `i` of the cache if it holds keys and values, else None."""
    layer = cache.layers[i] if cache is not None and i < len(cache.layers) else None
    return layer if isinstance(layer, CacheLayerMixin) and layer.is_initialized else None


def pruned_layer(cache: Cache | None, i: int) -> Pruned | None:
    """Layer `i` of the cache if it holds survivors of an earlier pass."""
    layer: Any = cache.layers[i] if cache is not None and i < len(cache.layers) else None
    return layer if getattr(layer, "next_column", 0) else None  # asked in every step: quicker than isinstance


def entries_before(cache: Cache | None, i: int, past: int) -> int:
    """Entries written to layer `i` in the `past` logical columns gone by, those that left a window included."""
    layer = pruned_layer(cache, i)
    return past - layer.dropped if layer is not None else past


def mask_width(cache: Cache | None, i: int, new: int) -> int:
    """Keys that the attention of layer `i` sees when `new` tokens come: the width of its mask."""
    layer: Any = cache.layers[i] if cache is not None and i < len(cache.layers) else None
    if layer is None:
        return new
    return layer.width(new) if getattr(layer, "next_column", 0) else int(layer.get_mask_sizes(new)[0])


def mask_offset(cache: Cache | None, i: int, length: int) -> int:
    """Logical column of the first column of the mask that the model made for layer `i`."""
    layer: Any = cache.layers[i] if cache is not None and i < len(cache.layers) else None
    moves = getattr(layer, "is_sliding", False) and layer.is_initialized
    return int(layer.get_mask_sizes(length)[1]) if moves else 0


def cached_keys(cache: Cache | None, i: int, before: int) -> Tensor | None:
    """Keys [B, H_kv, N, d] that layer `i` holds of the `before` entries written to it; None if there are none."""
    layer = layer_at(cache, i)
    if layer is None or before == 0:
        return None
    keys: Tensor = layer.keys
    return keys[:, :, :before]
