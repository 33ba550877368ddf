"""LLaVA in vLLM under a schedule."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.llava import (
    LlavaDummyInputsBuilder,
    LlavaForConditionalGeneration,
    LlavaMultiModalProcessor,
    LlavaProcessingInfo,
    _build_llava_or_pixtral_hf_info,
    _build_llava_or_pixtral_hf_processor,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from autoprune.engines.vllm.model import PrunedModel
from autoprune.engines.vllm.names import with_flat_tower
from autoprune.engines.vllm.prompts import ShortenedPrompts
from autoprune.engines.vllm.serving import served
from autoprune.errors import ModelError


class PrunedLlavaProcessor(ShortenedPrompts, LlavaMultiModalProcessor):
    """Prompts of LLaVA."""


def _processor(info: Any, dummy_inputs: Any, **kwargs: Any) -> Any:
    if isinstance(info, LlavaProcessingInfo):
        return PrunedLlavaProcessor(info, dummy_inputs, **kwargs)
    if served(info.ctx.model_config) is not None:
        raise ModelError(
            "its prompts have tokens between the rows of an image, which a schedule is not served with",
            field="vision_config.model_type",
            value=info.get_hf_config().vision_config.model_type,
            remedy="name no schedule, or use a LLaVA with a CLIP or SigLIP tower",
        )
    return _build_llava_or_pixtral_hf_processor(info, dummy_inputs, **kwargs)


@MULTIMODAL_REGISTRY.register_processor(
    _processor, info=_build_llava_or_pixtral_hf_info, dummy_inputs=LlavaDummyInputsBuilder
)
class PrunedLlava(PrunedModel, LlavaForConditionalGeneration):
    """LLaVA, pruned by the schedule that is named for it."""

    hf_to_vllm_mapper = with_flat_tower(LlavaForConditionalGeneration.hf_to_vllm_mapper)
