"""Identity of the model that a schedule was made for, by its structure."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Self

from pydantic import Field

from autoprune.schedule.validation import Int, Part, canonical

_TEXT_KEYS = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)
_VISION_KEYS = ("hidden_size", "num_hidden_layers", "patch_size", "image_size")


class ModelIdentity(Part):
    """The model that a schedule was made for."""

    name: str
    model_type: str
    num_layers: Annotated[Int, Field(ge=1)]
    hidden_size: Annotated[Int, Field(ge=1)]
    config_sha256: str

    @classmethod
    def from_config(cls, config: Any, name: str = "") -> Self:
        """Identity of the model with this transformers config.

        The hash covers a named structural subset of the config only: the whole dictionary changes with every
        transformers release.
        """
        text = config.get_text_config(decoder=True)
        vision = getattr(config, "vision_config", None)
        subset = {
            "text": {k: _setting(text, k) for k in _TEXT_KEYS},
            "vision": {k: _setting(vision, k) for k in _VISION_KEYS},
        }
        return cls(
            name=name or getattr(config, "name_or_path", "") or config.model_type,
            model_type=config.model_type,
            num_layers=text.num_hidden_layers,
            hidden_size=text.hidden_size,
            config_sha256=hashlib.sha256(canonical(subset)).hexdigest(),
        )


def _setting(config: Any, key: str) -> Any:
    """A value of a config, None if it has none; a list with one for each layer where the layers have their own."""
    if key in (getattr(config, "per_layer_attributes", None) or ()):
        return [getattr(layer, key, None) for layer in config.per_layer_config]
    return getattr(config, key, None)
