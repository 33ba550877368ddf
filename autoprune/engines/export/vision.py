"""The images of a prompt as features: vision tower and projector of a model, for images of one size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import ModelError

PIXELS = "pixel_values"


class Vision(nn.Module):
    """From pixel values to the features [N, d] of all placeholders of a prompt.

    Args:
        model: The model; its weights are shared, not copied.
        settings: Further arguments of its ``get_image_features``, fixed: sizes of images, masks of padding.
    """

    def __init__(self, model: Any, settings: Mapping[str, np.ndarray[Any, Any]]) -> None:
        super().__init__()
        self.model, self.settings = model, dict(settings)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features [N, d] of the images."""
        found = self.model.get_image_features(pixel_values=pixel_values, **self.settings)
        features = getattr(found, "pooler_output", found)
        parts = [features] if isinstance(features, Tensor) else features
        return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def settings_of(model: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the processor makes of images beside their pixels and the tower reads: fixed in a compiled model.

    Arrays, not tensors, because models compute sizes with them that must be numbers in a graph.

    Args:
        model: The model.
        inputs: Inputs of one prompt.

    Raises:
        ModelError: the prompt has no pixels, or the model does not encode images by them alone.
    """
    encode = getattr(model, "get_image_features", None)
    if encode is None or not isinstance(inputs.get(PIXELS), Tensor):
        raise ModelError(
            "the prompt's images are no pixel_values that get_image_features() takes",
            field="model",
            value=type(model).__name__,
            remedy="compile with a row that has an image, and a model such as LLaVA",
        )
    known = set(inspect.signature(encode).parameters) - {PIXELS}
    given = {name: inputs[name] for name in sorted(known & inputs.keys()) if isinstance(inputs[name], Tensor)}
    for name, value in given.items():
        if value.is_floating_point():
            raise ModelError(
                f"its vision tower also reads {name}, which differs between images of one size",
                field="model",
                value=type(model).__name__,
                remedy="use the schedule with autoprune.apply and transformers",
            )
    return {name: value.numpy() for name, value in given.items()}
