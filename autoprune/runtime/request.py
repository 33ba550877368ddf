"""What one call of the model asks for, seen before its decoder runs: ids, masks, labels, and where the prompt ends."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from autoprune.errors import PatchError
from autoprune.runtime.cache import past_length
from autoprune.runtime.encoder import EncoderPass
from autoprune.runtime.pruner import Pruner

_VISUAL_INPUTS = ("image_embeds", "video_embeds", "image_patches", "mm_encoder_outputs")


@dataclass
class Request:
    """What the outer model was called with; nothing, if its decoder is called on its own."""

    input_ids: Tensor | None = None
    attention_mask: Any = None
    has_visual_input: bool = False
    first_label: Tensor | None = None
    placeholder: Tensor | None = None

    def mark(self, mask: Tensor | None) -> None:
        """Note visual positions that the model itself knows: [B, S], or [B, S, d] over embeddings."""
        if mask is not None:
            flat = mask.any(-1) if mask.ndim == 3 else mask.bool()
            self.placeholder = flat if self.placeholder is None else self.placeholder | flat


class Calls(threading.local):
    """The calls in progress on a patched model; each thread has its own."""

    def __init__(self) -> None:
        self.request = Request()
        self.pruner: Pruner | None = None
        self.encoder: EncoderPass | None = None
        self.encoded: EncoderPass | None = None  # before the pass, by generate()
        self.lengths: Tensor | int | None = None
        self.prompt_length: int | None = None
        self.prompt_ids: Tensor | None = None

    def known_ids(self, batch: int, length: int) -> Tensor | None:
        """Ids [B, S] behind the embeddings of a pass: those of the outer model's call, else of its generate().

        Some models generate with their language model alone, from embeddings: samples are repeated for beams, and
        what was generated has no ids here.
        """
        ids, prompt = self.request.input_ids, self.prompt_ids
        if ids is None and prompt is not None and batch % len(prompt) == 0 and prompt.shape[1] <= length:
            ids = pad(prompt.repeat_interleave(batch // len(prompt), dim=0), (0, length - prompt.shape[1]), value=-1)
        return ids if ids is not None and tuple(ids.shape) == (batch, length) else None

    def end(self) -> None:
        """Forget a forward pass, also a failed one, so that nothing of it reaches the next or stays in memory."""
        if self.pruner is not None:
            self.pruner.close()
        if self.encoder is not None:
            self.encoder.close()
        self.pruner, self.encoder, self.request = None, None, Request()


def named_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """All arguments of a call by name, however they were passed."""
    if not args:
        return kwargs
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def without_first(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments but the first by name."""
    first = next(iter(inspect.signature(function).parameters))
    return {name: value for name, value in named_arguments(function, args, kwargs).items() if name != first}


def read_request(call: Mapping[str, Any]) -> Request:
    """The request in a call of the outer model, whose arguments are given by name."""
    labels = call.get("labels")
    first = None
    if labels is not None:
        answered = labels != -100
        first = torch.where(answered.any(1), answered.to(torch.uint8).argmax(1), labels.shape[1])
    return Request(
        input_ids=call.get("input_ids"),
        attention_mask=call.get("attention_mask"),
        has_visual_input=any(
            v is not None and (n.startswith("pixel_values") or n in _VISUAL_INPUTS) for n, v in call.items()
        ),
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


def forward_arguments(model: nn.Module, call: Mapping[str, Any]) -> dict[str, Any]:
    """What generate() was called with, as far as it is for the model."""
    wanted = inspect.signature(model.forward).parameters
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
    """Where the prompt of a generate() call ends, in columns of its whole conversation; None if it has no tensor.

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
