"""The entry point that vLLM calls at start, in each of its processes."""

from __future__ import annotations

import functools
import logging
import os

from autoprune.errors import ModelError

SUPPORTED = "0.32"
"""The minor version of vLLM whose parts the plug-in knows."""
MODELS = {
    "LlavaForConditionalGeneration": "autoprune.engines.vllm.llava:PrunedLlava",
    "LlavaNextForConditionalGeneration": "autoprune.engines.vllm.llava_next:PrunedLlavaNext",
    "Qwen2_5_VLForConditionalGeneration": "autoprune.engines.vllm.qwen2_5_vl:PrunedQwen2VL",
}
"""Model classes that serve schedules, by the architecture of a config."""
log = logging.getLogger("autoprune")


@functools.cache  # vLLM may call it again
def register() -> None:
    """Let vLLM serve schedules; models without one run as before.

    Another version of vLLM refuses a model for which a schedule is named, or stands beside its weights.

    Raises:
        ModelError: a schedule is named by AUTOPRUNE_SCHEDULE, and this vLLM is of another version.
    """
    import vllm

    from autoprune.engines.vllm.start import checked, guard

    problem = unsupported(vllm.__version__)
    if problem is not None:
        if os.environ.get("AUTOPRUNE_SCHEDULE"):
            raise problem
        log.warning("pruning schedules are not served: %s", problem)
        guard(vllm.ModelRegistry, (), problem)
        return
    # Not at the top: what must not be there in other versions.
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    for architecture, name in MODELS.items():
        ModelRegistry.register_model(architecture, name)
        MODELS_CONFIG_MAP[architecture] = checked(MODELS_CONFIG_MAP.get(architecture))
    guard(ModelRegistry, MODELS)


def unsupported(version: str) -> ModelError | None:
    """Why a version of vLLM is not served; None if it is."""
    if version.split(".")[:2] == SUPPORTED.split("."):
        return None
    return ModelError(
        f"pruning schedules are served by vLLM {SUPPORTED}",
        field="vllm",
        value=version,
        remedy=f"install it: pip install 'vllm=={SUPPORTED}.*'; or leave schedules out, with VLLM_PLUGINS=''",
    )
