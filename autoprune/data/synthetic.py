"""Made-up samples, for checks of a model without data: images of fixed noise with a short question."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image

from autoprune.data.images import ImageSource
from autoprune.data.rows import Sample


def synthetic_sample(config: Any, question: str = "What is in the image?", images: int = 1) -> Sample:
    """A sample with images of fixed noise, of the size that the vision tower takes.

    Args:
        config: The model's config.
        question: The text.
        images: How many; no two are the same.
    """
    size = getattr(getattr(config, "vision_config", None), "image_size", None) or 224
    side = size if isinstance(size, int) else max(size)  # some towers name height and width
    made = tuple(_noise(side, seed) for seed in range(images))
    return Sample("synthetic", question, made, (), None, None, None, "synthetic")


def _noise(side: int, seed: int) -> ImageSource:
    pixels = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, format="PNG")
    return ImageSource(data=buffer.getvalue())
