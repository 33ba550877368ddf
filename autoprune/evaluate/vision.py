"""What encoding the images of a sample costs: counted once for each size of images, on the processor's own outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.evaluate.encoding import model_inputs
from autoprune.evaluate.rendering import render
from autoprune.models.loading import LoadedModel
from autoprune.pricing.counting import vision_flops

_TEXT = ("input_ids", "attention_mask")


class VisionCounter:
    """FLOPs of vision tower and projector for single samples of one model.

    They depend on what the processor makes of the images (tiles, grids, number), never on what is seen in them.

    Args:
        loaded: The model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._by_sizes: dict[tuple[Any, ...], int] = {}
        self._by_shapes: dict[tuple[Any, ...], int] = {}
        self._reads_text = False

    def of(self, sample: Sample) -> int:
        """FLOPs for one sample; the model runs up to its first decoder layer where nothing like it came before."""
        if sample.is_text_only:
            return 0
        key = visual_sizes(sample)
        if self._reads_text:
            key = (*key, render(self._loaded.processor, sample))
        if key not in self._by_sizes:
            inputs = model_inputs(self._loaded, [sample])
            # A tower that also reads the prompt gets it under a name of its own.
            self._reads_text = any(name.endswith("input_ids") and name not in _TEXT for name in inputs)
            shape = _shape(inputs)
            if shape not in self._by_shapes:
                self._by_shapes[shape] = vision_flops(self._loaded.model, inputs)
            self._by_sizes[key] = self._by_shapes[shape]
        return self._by_sizes[key]


def visual_sizes(sample: Sample) -> tuple[Any, ...]:
    """Sizes of images, lengths and sizes of videos: what the processor's tokens and a tower's work depend on."""
    videos = tuple((len(video.frames), video.frames[0].size) for video in sample.videos)
    return tuple(image.size for image in sample.images), videos


def _shape(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """All that a tower's work can depend on: shapes of pixels, values of grids, sizes and masks."""
    own = {name: value for name, value in inputs.items() if isinstance(value, Tensor) and name not in _TEXT}
    along = inputs["input_ids"].shape
    return tuple(
        (name, tuple(value.shape), None if value.is_floating_point() else value.cpu().numpy().tobytes())
        for name, value in sorted(own.items())
        if value.shape != along
    )
