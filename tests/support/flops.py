"""Counting what a call really computes, independently of the cost model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], Any]) -> int:
    """FLOPs of matrix products, convolutions and attention in `call`, as torch's own counter sees them.

    Rotary embeddings are left out: some families compute the angles by a (tiny) matrix product, others element by
    element, and the cost model counts neither.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call()
    counts = counter.get_flop_counts()
    rotary = sum(
        sum(ops.values()) for name, ops in counts.items() if "rotary" in name.split(".")[-1] and name != "Global"
    )
    return int(sum(counts["Global"].values()) - rotary)


@contextmanager
def countable_attention(model: nn.Module, implementation: str) -> Iterator[None]:
    """Attention that the counter can see: eager, or sdpa on its MATH backend (the fused CPU kernel counts as zero)."""
    model.set_attn_implementation(implementation)
    with sdpa_kernel(SDPBackend.MATH):
        yield


def cache_bytes(cache: Any) -> int:
    """Bytes of the keys and values that a cache holds; states of recurrent layers are neither."""
    attending = [layer for layer in cache.layers if hasattr(layer, "keys")]
    return sum(t.numel() * t.element_size() for layer in attending for t in (layer.keys, layer.values))
