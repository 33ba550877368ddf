"""Qwen2.5-VL in vLLM under a schedule."""

from __future__ import annotations

from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from autoprune.engines.vllm.model import PrunedModel
from autoprune.engines.vllm.prompts import ShortenedPrompts


class PrunedQwen2VLProcessor(ShortenedPrompts, Qwen2_5_VLMultiModalProcessor):
    """Prompts of Qwen2.5-VL."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen2VLProcessor, info=Qwen2_5_VLProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class PrunedQwen2VL(PrunedModel, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL, pruned by the schedule that is named for it."""
