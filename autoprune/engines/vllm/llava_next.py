"""LLaVA-NeXT in vLLM under a schedule."""

from __future__ import annotations

from vllm.model_executor.models.llava import LlavaDummyInputsBuilder
from vllm.model_executor.models.llava_next import (
    LlavaNextForConditionalGeneration,
    LlavaNextMultiModalProcessor,
    LlavaNextProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from autoprune.engines.vllm.model import PrunedModel
from autoprune.engines.vllm.names import with_flat_tower
from autoprune.engines.vllm.prompts import ShortenedPrompts


class PrunedLlavaNextProcessor(ShortenedPrompts, LlavaNextMultiModalProcessor):
    """Prompts of LLaVA-NeXT."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedLlavaNextProcessor, info=LlavaNextProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder
)
class PrunedLlavaNext(PrunedModel, LlavaNextForConditionalGeneration):
    """LLaVA-NeXT, pruned by the schedule that is named for it."""

    hf_to_vllm_mapper = with_flat_tower(LlavaNextForConditionalGeneration.hf_to_vllm_mapper)
