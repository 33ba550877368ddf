"""Sources of scores that a model cannot have, as far as its config says; no weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoprune.schedule.criteria import Reads


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


def _keys(values: Mapping[Any, Any]) -> Iterator[str]:
    """All keys, those of parts of parts included."""
    for key, value in values.items():
        yield str(key)
        if isinstance(value, Mapping):
            yield from _keys(value)
