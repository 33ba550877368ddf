"""What one forward pass looks like to the patch: which positions are valid, prompt, visual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import PatchError
from autoprune.runtime.frame import Frame

VisualMask = Tensor | Callable[[Tensor | None, Tensor | None], Tensor]


@dataclass
class Context:
    """One forward pass of the text model over [B, S] positions after `past` cached ones.

    Attributes:
        valid: BoolTensor[B, S], False at padding.
        prompt: BoolTensor[B, S], valid positions that belong to the prompt; only they vote or are pruned.
        visual: BoolTensor[B, S], visual tokens of the prompt.
        n_visual: Visual tokens per sample; all zero unless this is a prefill with visual tokens.
        frame: Survivors after the last stage that dropped something.
        alive: BoolTensor[B, S], the same as a mask (padding excluded).
        raters: BoolTensor[B, S], the words that match the image; None where no stage asks for them.
    """

    batch: int
    length: int
    past: int
    valid: Tensor
    prompt: Tensor
    visual: Tensor
    n_visual: list[int]
    alive: Tensor
    frame: Frame | None = None
    raters: Tensor | None = None
    cache: Any = None
    fired: set[int] = field(default_factory=set)
    scores: dict[Any, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def is_prefill(self) -> bool:
        """Whether this pass brings visual tokens that a schedule may prune."""
        return any(self.n_visual)

    @property
    def last_prompt(self) -> Tensor:
        """BoolTensor[B, S], True at the last prompt token of each sample."""
        return self.prompt & (self.prompt.flip(1).cumsum(1).flip(1) == 1)


def read_valid(attention_mask: Any, batch: int, length: int, past: int, device: torch.device) -> Tensor:
    """BoolTensor[B, S] of positions that are not padding, from any mask a model of transformers is handed.

    Raises:
        PatchError: a mask [B, N] that does not cover the cached tokens and the new ones.
    """
    if isinstance(attention_mask, dict):
        # Of a sliding mask the first columns are cut; a full one that is None says that nothing is padding.
        sliding = next((mask for mask in attention_mask.values() if mask is not None), None)
        attention_mask = attention_mask.get("full_attention", sliding)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        if attention_mask.shape[0] != batch or attention_mask.shape[1] < past + length:
            raise PatchError(
                f"must have one row for each of {batch} samples and a column for each of {past} cached and {length} new"
                " tokens",
                field="attention_mask",
                value=tuple(attention_mask.shape),
                remedy="give the mask of the whole conversation, or none",
            )
        return attention_mask[:, past : past + length].bool().to(device)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 4:
        # A valid position may attend to itself; padding may not.
        own = attention_mask[:, 0, :, past : past + length].diagonal(dim1=-2, dim2=-1)
        return (own if own.dtype == torch.bool else own == 0).expand(batch, length).to(device)
    return torch.ones(batch, length, dtype=torch.bool, device=device)


def find_visual(
    given: VisualMask | None,
    placeholder: Tensor | None,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    visual_ids: tuple[int, ...],
    shape: tuple[int, int],
    past: int,
    prompt_length: int | None,
) -> Tensor | None:
    """BoolTensor[B, S] of visual positions; None if nothing says where they are.

    Order: the user's mask, the model's own placeholder mask, the placeholder ids.

    Raises:
        PatchError: the user's mask does not fit this prefill.
    """
    if given is not None:
        mask = given(input_ids, inputs_embeds) if callable(given) else _fitted(given, shape, past, prompt_length)
        if mask.shape != shape or mask.dtype != torch.bool:
            raise PatchError(
                f"must be a bool tensor of shape {shape} for this prefill",
                field="visual_mask",
                value=f"{mask.dtype} {tuple(mask.shape)}",
                remedy="give a mask of this batch and prompt, or a callable (input_ids, inputs_embeds) -> mask",
            )
        return mask
    if placeholder is not None and placeholder.shape == shape:
        return placeholder
    if input_ids is not None and tuple(input_ids.shape) == shape and visual_ids:
        return torch.isin(input_ids, torch.tensor(visual_ids, device=input_ids.device))
    return None


def _fitted(mask: Tensor, shape: tuple[int, int], past: int, prompt_length: int | None) -> Tensor:
    """The mask of a whole prompt, for a pass inside generate() that repeats samples, goes on after a cache, or grew."""
    batch, length = shape
    if prompt_length is None or mask.ndim != 2 or mask.shape[1] != prompt_length:
        return mask
    if batch % mask.shape[0] == 0:  # beams and returned sequences repeat each sample
        mask = mask.repeat_interleave(batch // mask.shape[0], dim=0)
    mask = mask[:, past:]
    return torch.nn.functional.pad(mask, (0, max(0, length - mask.shape[1])))
