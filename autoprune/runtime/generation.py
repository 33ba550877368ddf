"""The arguments of generate(): its prompt, and a call of it that goes around the patch.

The patch learns where a prompt ends from the arguments of ``model.generate``, an attribute of the instance. A call that
does not look it up there (bound before the patch, made on the class, or on a model around the one that is patched)
still runs the hooks. With a cache that is exact: the prompt comes in a pass of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from inspect import signature, unwrap
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from autoprune.errors import PatchError
from autoprune.runtime.cache import past_length
from autoprune.runtime.frames import outwards
from autoprune.runtime.refusals import refuse_options

_GENERATE = unwrap(GenerationMixin.generate).__code__


def forward_arguments(model: nn.Module, call: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a generate() call that are for the model's forward."""
    wanted = signature(model.forward).parameters
    found = {name: value for name, value in call.items() if name in wanted and value is not None}
    prompt = call.get("inputs")
    return found if prompt is None else {"input_ids": prompt, **found}


def refuse_later_turn(call: Mapping[str, Any]) -> None:
    """Refuse images in a generate() that goes on with a cache: which of its ids are new is not known before it runs.

    Raises:
        PatchError: the cache holds something.
    """
    if past_length(call.get("past_key_values")):
        raise PatchError(
            "images of a later turn cannot be scored by the vision tower in generate()",
            field="criterion.name",
            value="encoder",
            remedy="give the whole conversation without a cache, or use attention or diversity",
        )


def prompt_length(call: Mapping[str, Any]) -> int | None:
    """End of the prompt of a generate() call, in columns of its whole conversation; None if it has no tensor.

    Args:
        call: Arguments of generate(), by name.
    """
    prompt = next(
        (c for name in ("inputs_embeds", "input_ids", "inputs") if isinstance(c := call.get(name), Tensor)), None
    )
    if prompt is None:
        return None
    past, mask = past_length(call.get("past_key_values")), call.get("attention_mask")
    if past and getattr(call.get("generation_config"), "is_assistant", False):
        return 0  # it drafts on: what it has not seen was generated
    if past and mask is not None and prompt.ndim == 2:
        return int(mask.shape[1])  # the ids may be those of the new turn alone, the mask covers all turns
    return prompt.shape[1]


def check_generation(decoder: nn.Module, has_cache: bool) -> None:
    """Refuse a prefill inside a generate() whose passes do not show where the prompt ends.

    Args:
        decoder: The text model about to run.
        has_cache: Whether this pass fills a cache.

    Raises:
        PatchError: the generate() repeats the prompt in every step, adds drafts to it, or cuts it into chunks.
    """
    call = _generating(decoder)
    if call is None:
        return
    config = call.get("generation_config")
    refuse_options({"generation_config": config}, None)
    drafts = call.get("assistant_model") is not None or getattr(config, "prompt_lookup_num_tokens", None)
    if drafts or not has_cache:
        raise PatchError(
            "this generate() goes around the patch, which cannot tell its prompt from its answer",
            field="generate",
            value="drafts" if drafts else "use_cache=False",
            remedy="call generate() on the very model that was given to apply(), looked up after apply(); or generate "
            "with a cache and without drafts",
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code has no frames to look at
def _generating(decoder: nn.Module) -> Mapping[str, Any] | None:
    """Variables of the generate() in progress in this thread of a model that holds the decoder, if there is one."""
    for frame in outwards(sys._getframe()):
        if frame.f_code is _GENERATE and any(part is decoder for part in frame.f_locals["self"].modules()):
            return frame.f_locals
    return None
