"""What one call of the model asks for, seen before its decoder runs: ids, masks, labels, and where the prompt ends."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.pruner import Pruner

_VISUAL_INPUTS = ("pixel_values", "pixel_values_videos", "image_embeds", "video_embeds", "mm_encoder_outputs")


@dataclass
class Request:
    """What the outer model was called with; nothing, if its decoder is called on its own."""

    input_ids: Tensor | None = None
    attention_mask: Any = None
    has_visual_input: bool = False
    first_label: Tensor | None = None
    placeholder: Tensor | None = None


class Calls(threading.local):
    """The calls in progress on a patched model; each thread has its own."""

    def __init__(self) -> None:
        self.request = Request()
        self.pruner: Pruner | None = None
        self.lengths: Tensor | int | None = None
        self.prompt_length: int | None = None

    def end(self) -> None:
        """Forget a forward pass, also a failed one, so that nothing of it reaches the next or stays in memory."""
        if self.pruner is not None:
            self.pruner.close()
        self.pruner, self.request = None, Request()


def named_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """All arguments of a call by name, however they were passed."""
    if not args:
        return kwargs
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def read_request(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
    """The request in a call of the outer model."""
    call = named_arguments(model.forward, args, kwargs)
    labels = call.get("labels")
    first = None
    if labels is not None:
        answered = labels != -100
        first = torch.where(answered.any(1), answered.to(torch.uint8).argmax(1), labels.shape[1])
    return Request(
        input_ids=call.get("input_ids"),
        attention_mask=call.get("attention_mask"),
        has_visual_input=any(call.get(name) is not None for name in _VISUAL_INPUTS),
        first_label=first,
    )


def prompt_columns(calls: Calls, length: int, past: int, valid: Tensor) -> Tensor:
    """BoolTensor[B or 1, S] of columns before the end of the prompt.

    Raises:
        PatchError: as many ends as samples are needed.
    """
    columns = torch.arange(length, device=valid.device)[None] + past
    limit = calls.prompt_length if calls.lengths is None else calls.lengths
    if limit is None and calls.request.first_label is not None:
        limit = calls.request.first_label + past
    if limit is None:
        return columns >= 0
    ends = torch.as_tensor(limit, device=valid.device).reshape(-1, 1)
    if len(ends) not in (1, len(valid)):
        raise PatchError(
            f"needs one length, or one for each of the {len(valid)} samples", field="lengths", value=len(ends)
        )
    return columns < ends


def refuse_chunked_prefill(call: Mapping[str, Any], default: Any) -> None:
    """Refuse a generate() call that feeds its prompt in pieces.

    Args:
        call: Arguments of generate(), by name.
        default: The model's own generation config, which fills what the call leaves open.

    Raises:
        PatchError: a chunk size is set.
    """
    configs = (call.get("generation_config"), default)
    sizes = [call.get("prefill_chunk_size"), *(getattr(c, "prefill_chunk_size", None) for c in configs)]
    chunk = next((size for size in sizes if size), None)
    if chunk:
        raise PatchError(
            "chunked prefill cannot be pruned: a chunk does not see the whole prompt",
            field="prefill_chunk_size",
            value=chunk,
            remedy="set it to None",
        )
