"""What a running engine of vLLM has pruned."""

from __future__ import annotations

import re
from typing import Any

_SUFFIX = re.compile(r"-[0-9a-f]{8}$")
"""What vLLM puts behind the name that a caller gives a request."""


def lengths_by_request(llm: Any) -> dict[str, tuple[int, ...]]:
    """Tokens in each decoder layer of the latest prompts with images, by the id of a request's output.

    Only of schedules that act between layers: where prompts are shortened, a prompt is as long in every layer.

    Args:
        llm: A `vllm.LLM` in whose process the model runs (``VLLM_ENABLE_V1_MULTIPROCESSING=0``), or one that takes
            functions (``VLLM_ALLOW_INSECURE_SERIALIZATION=1``).
    """
    found: dict[str, tuple[int, ...]] = {}
    for lengths in llm.apply_model(_lengths):
        found |= {_SUFFIX.sub("", name): of_layers for name, of_layers in lengths.items()}
    return found


def _lengths(model: Any) -> dict[str, tuple[int, ...]]:
    layers = getattr(model, "pruned_layers", None)
    return {} if layers is None else dict(layers.lengths)
