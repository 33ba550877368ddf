"""Names of weights that vLLM 0.32 does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

_PARTS = ("embeddings", "encoder", "pre_layrnorm", "post_layernorm")


def with_flat_tower(mapper: Any) -> Any:
    """Names of a LLaVA, also of one whose CLIP tower was saved without the level ``vision_model``.

    Newer releases of transformers save it so.

    Args:
        mapper: Names that the model class knows.
    """
    flat = {
        f"{prefix}vision_tower.{part}": f"vision_tower.vision_model.{part}"
        for prefix in ("", "model.")
        for part in _PARTS
    }
    return replace(mapper, orig_to_new_prefix={**flat, **mapper.orig_to_new_prefix})
