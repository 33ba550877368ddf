"""Sources of scores that a model, or some of its layers, cannot have, as far as its config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoprune.schedule.criteria import Reads

_RECURRENT = ("conv", "linear_attention")
"""Kinds of layers, in the words of transformers."""


def missing_sources(config: Any) -> dict[Reads, str]:
    """Sources that the structure in a config rules out, each with the reason.

    What is not ruled out here may still turn out impossible once the model runs.

    Args:
        config: The whole model's config (transformers).
    """
    text = config.get_text_config(decoder=True)
    parts = [part for name in getattr(config, "sub_configs", {}) if (part := getattr(config, name, None)) is not None]
    towers = [part for part in parts if part is not text]
    if not any("head" in key for tower in towers for key in _keys(tower.to_dict())):
        return {Reads.TOWER: "its config names no vision tower with attention heads"}
    return {}


def layers_without_attention(config: Any) -> frozenset[int]:
    """Decoder layers that mix tokens by convolution or recurrence: there is no attention to read.

    Args:
        config: The whole model's config (transformers).
    """
    kinds = getattr(config.get_text_config(decoder=True), "layer_types", None) or ()
    return frozenset(i for i, kind in enumerate(kinds) if kind in _RECURRENT)


def _keys(values: Mapping[Any, Any]) -> Iterator[str]:
    """All keys, those of parts of parts included."""
    for key, value in values.items():
        yield str(key)
        if isinstance(value, Mapping):
            yield from _keys(value)
