"""Qwen2.5-VL in vLLM under a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from autoprune.engines.vllm.model import PrunedModel
from autoprune.engines.vllm.prompts import SPANS, ShortenedPrompts
from autoprune.engines.vllm.shortened import whole_prompt


class PrunedQwen2VLProcessor(ShortenedPrompts, Qwen2_5_VLMultiModalProcessor):
    """Prompts of Qwen2.5-VL."""

    def n_tokens(self, width: int, height: int, options: Mapping[str, Any]) -> int:
        """Visual tokens of an image of a size, under a request's options of the processor."""
        processor = self.info.get_image_processor(**options)
        n: int = self.info.get_num_image_tokens(
            image_width=width, image_height=height, image_processor=processor, mm_kwargs=options
        )
        return n


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen2VLProcessor, info=Qwen2_5_VLProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class PrunedQwen2VL(PrunedModel, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL, pruned by the schedule that is named for it."""

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[Tensor, int]:
        """Positions [3, n] of a prompt, which in a shorter one are those of the whole, and the step behind its end."""
        model: Any = super()
        if self.served_schedule is None or self.pruned_layers is not None or not mm_features:
            positions: tuple[Tensor, int] = model.get_mrope_input_positions(input_tokens, mm_features)
            return positions
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        merged = self.config.vision_config.spatial_merge_size**2
        images = [
            (
                feature.mm_position.offset,
                int(feature.data["image_grid_thw"].data.prod()) // merged,
                tuple(feature.data[SPANS].data.tolist()),
            )
            for feature in features
        ]
        places, starts, length = whole_prompt(self.served_schedule.stages[0], len(input_tokens), images)
        whole = [
            replace(feature, mm_position=replace(feature.mm_position, offset=start, length=n))
            for feature, start, (_, n, _) in zip(features, starts, images, strict=True)
        ]
        found, step = model.get_mrope_input_positions([0] * length, whole)
        return found[:, places], step + length - len(input_tokens)
