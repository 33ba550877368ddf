"""Prompts that a model cannot take, refused by row before anything runs: too long for it, or for the free memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprune.data.rows import Sample
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.planning import prompt_lengths
from autoprune.models.environment import free_bytes
from autoprune.models.loading import LoadedModel
from autoprune.pricing.architecture import Architecture

_SOFTMAX_BYTES = 4  # full precision, whatever the model runs in
_REMEDY = "shorten the prompt, show fewer or smaller images (processor settings such as max_pixels), or drop the row"


def check_lengths(loaded: LoadedModel, samples: Sequence[Sample]) -> None:
    """Refuses rows whose prompt, images included, is longer than the model or the free memory allows.

    The model's maximum is `max_position_embeddings`: it was made for no more, also where its rotary positions or its
    sliding windows would go on without an error.

    Args:
        loaded: The model.
        samples: The rows that it will be shown.

    Raises:
        DataError: naming the first such row, its tokens, the maximum and the remedy.
    """
    lengths = prompt_lengths(loaded.processor, samples)
    most = getattr(loaded.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if isinstance(most, int):
        _refuse(samples, lengths, most, f"the model takes {most} (max_position_embeddings)")
    free, longest = free_bytes(p.device for p in loaded.model.parameters()), max(lengths, default=0)
    if free is not None and least_bytes(loaded, longest) > free:
        fitting = _fitting(loaded, longest, free)
        needed = least_bytes(loaded, longest)
        said = f"alone it takes at least {needed / 1e9:.1f} GB, where {free / 1e9:.1f} GB are free"
        _refuse(samples, lengths, fitting, f"{said}, enough for {fitting}")


def least_bytes(loaded: LoadedModel, tokens: int) -> int:
    """Memory that a prompt of so many tokens takes at the very least, in one pass, all by itself; 0 if it is not known.

    Keys and values of all layers, the stream of hidden states twice, and with eager attention the weights of one layer,
    in the model's precision and in full.
    """
    try:
        architecture = Architecture.from_config(loaded.config)
    except ModelError:
        return 0
    each: int = loaded.model.dtype.itemsize
    cached = sum(layer.cached(tokens) * layer.kv_width for layer in architecture.layers)
    streams = 2 * tokens * architecture.layers[0].hidden
    text: Any = loaded.config.get_text_config(decoder=True)
    heads = max(layer.heads for layer in architecture.layers) if text._attn_implementation == "eager" else 0
    return each * (cached + streams) + heads * tokens * tokens * (each + _SOFTMAX_BYTES)


def _fitting(loaded: LoadedModel, longest: int, free: int) -> int:
    """The most tokens that fit."""
    low, high = 0, longest
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if least_bytes(loaded, middle) <= free else (low, middle)
    return low


def _refuse(samples: Sequence[Sample], lengths: Sequence[int], most: int, why: str) -> None:
    long = [(sample, length) for sample, length in zip(samples, lengths, strict=True) if length > most]
    if not long:
        return
    sample, length = long[0]
    others = f"; {len(long) - 1} further rows are too long as well" if len(long) > 1 else ""
    raise DataError(
        f"the prompt of row {sample.id} has {length} tokens, images included, and {why}{others}",
        field="prompt",
        value=f"{length} tokens",
        remedy=_REMEDY,
    )
