"""One call of a patched model: what it asks for, where its prompt ends, and which of its positions are visual."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from autoprune.errors import PatchError
from autoprune.runtime.refusals import ended_elsewhere
from autoprune.runtime.running import Running
from autoprune.runtime.survivors import Survivors

if TYPE_CHECKING:
    from autoprune.runtime.encoder import EncoderPass
    from autoprune.runtime.pruner import Pruner

_VISUAL_INPUTS = ("image_embeds", "video_embeds", "image_patches", "mm_encoder_outputs")


@dataclass
class Request:
    """Call of the outer model, as far as pruning depends on it; empty if its decoder is called on its own."""

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
    """The calls in progress on a patched model; each thread has its own.

    Args:
        running: What all threads share.

    Attributes:
        whole: Whether the call in progress began under the patch, so that nothing of it was missed.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.whole = self._begun = False
        self.request = Request()
        self.pruner: Pruner | None = None
        self.encoder: EncoderPass | None = None
        self.encoded_by_generate: EncoderPass | None = None  # before the pass, by generate()
        self.lengths: Tensor | int | None = None
        self.prompt_length: int | None = None
        self.prompt_ids: Tensor | None = None

    @contextmanager
    def prompt(self, lengths: Tensor | int) -> Iterator[None]:
        """Let prompts of plain calls of this thread end at these columns."""
        outer, self.lengths = self.lengths, lengths
        self.running.prompting.append(None)
        try:
            yield
        finally:
            self.running.prompting.pop()
            self.lengths = outer

    def known_ids(self, batch: int, length: int) -> Tensor | None:
        """Ids [B, S] behind the embeddings of a pass: those of the outer model's call, else of its generate().

        Some models generate with their language model alone, from embeddings: samples are repeated for beams, and
        what was generated has no ids here.
        """
        ids, prompt = self.request.input_ids, self.prompt_ids
        if ids is None and prompt is not None and batch % len(prompt) == 0 and prompt.shape[1] <= length:
            ids = pad(prompt.repeat_interleave(batch // len(prompt), dim=0), (0, length - prompt.shape[1]), value=-1)
        return ids if ids is not None and tuple(ids.shape) == (batch, length) else None

    @property
    def knows_prompt(self) -> bool:
        """Whether something says where the prompt ends."""
        return not (self.prompt_length is None and self.lengths is None and self.request.first_label is None)

    def begin(self) -> bool:
        """Note that a forward pass begins, if it did not yet; False if it is to run as without the patch."""
        self._begun = self._begun or self.running.enter()
        return self._begun

    def end(self) -> None:
        """Forget a forward pass, also a failed one, so that nothing of it reaches the next or stays in memory."""
        if self.pruner is not None:
            self.pruner.close()
        if self.encoder is not None:
            self.encoder.close()
        self.pruner, self.encoder, self.request = None, None, Request()
        if self._begun:
            self.running.leave()
        self._begun = False


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
            _is_given(v) and (n.startswith("pixel_values") or n in _VISUAL_INPUTS) for n, v in call.items()
        ),
        first_label=first,
    )


def _is_given(value: Any) -> bool:
    """Whether an input holds something: ``generate()`` hands an empty `mm_encoder_outputs` to a text-only prompt."""
    return value is not None and not (isinstance(value, Mapping | list | tuple) and not value)


def prompt_columns(calls: Calls, length: int, past: int, valid: Tensor) -> Tensor:
    """BoolTensor[B or 1, S] of columns before the end of the prompt.

    Raises:
        PatchError: as many ends as samples are needed; or only another thread has said where they are.
    """
    columns = torch.arange(length, device=valid.device)[None] + past
    limit = calls.prompt_length if calls.lengths is None else calls.lengths
    if limit is None and calls.request.first_label is not None:
        limit = calls.request.first_label + past
    if limit is None:
        if calls.running.prompting:
            raise ended_elsewhere()
        return columns >= 0
    ends = torch.as_tensor(limit, device=valid.device).reshape(-1, 1)
    if len(ends) not in (1, len(valid)):
        raise PatchError(
            f"needs one length, or one for each of the {len(valid)} samples", field="lengths", value=len(ends)
        )
    return columns < ends


VisualMask = Tensor | Callable[[Tensor | None, Tensor | None], Tensor]


@dataclass
class PassState:
    """One forward pass of the text model over [B, S] positions after `past` cached ones.

    Attributes:
        past: Columns that are cached.
        valid: BoolTensor[B, S], False at padding.
        prompt: BoolTensor[B, S], valid positions that belong to the prompt; only they vote or are pruned.
        visual: BoolTensor[B, S], visual tokens of the prompt.
        n_visual: Visual tokens of each sample; all zero unless this is a prefill with visual tokens.
        n_text: Text tokens of each sample after its first visual one.
        n_prompt: Prompt tokens of each sample.
        n_alive: Tokens of each sample that no stage has dropped yet, padding excluded.
        n_candidates: Visual tokens of each sample that no stage has dropped yet.
        ends_visual: Samples whose last prompt token is visual.
        alive: BoolTensor[B, S], the tokens that no stage has dropped yet, padding excluded.
        survivors: The shortened view, once a stage has dropped something.
        raters: BoolTensor[B, S], the words that match the image; None where no stage asks for them.
        tower: FloatTensor[B, S], attention received in the vision tower; None where no stage reads it.
        cache: KV cache of the call.
        counts: {layer of a stage that has run: visual tokens of each sample alive after it}.
        scores: Scores {(stage layer, criterion): FloatTensor[B, S]} of this pass.
        inputs: Hidden states at full length that entered the layers running now.
        memo: What layers share (masks, positions, columns), by identity of what it is made from.
    """

    batch: int
    length: int
    past: int
    valid: Tensor
    prompt: Tensor
    visual: Tensor
    n_visual: tuple[int, ...]
    n_text: tuple[int, ...]
    n_prompt: tuple[int, ...]
    n_alive: tuple[int, ...]
    ends_visual: tuple[bool, ...]
    n_candidates: tuple[int, ...] = ()
    survivors: Survivors | None = None
    raters: Tensor | None = None
    tower: Tensor | None = None
    cache: Any = None
    counts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scores: dict[Any, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    _expected: list[tuple[Tensor, PatchError]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alive = self.valid
        self.n_candidates = self.n_visual

    @classmethod
    def of_pass(cls, past: int, valid: Tensor, prompt: Tensor, visual: Tensor | None) -> Self:
        """The state before the first layer.

        Args:
            past: Columns that are cached.
            valid: As the attribute.
            prompt: As the attribute.
            visual: As the attribute; None in a pass that brings no prompt, such as a decode step, for which nothing is
                read back from the device.
        """
        batch, length = valid.shape
        none = (0,) * batch
        if visual is None:
            nothing = torch.zeros_like(valid)
            return cls(batch, length, past, valid, prompt, nothing, none, none, none, none, (False,) * batch)
        text = prompt & ~visual & (visual.cumsum(1) > 0)
        last = visual & _last(prompt)
        # The one place where a prefill waits for the device to know its own layout.
        counts = torch.stack([mask.sum(1) for mask in (visual, text, prompt, valid, last)]).tolist()
        n_visual, n_text, n_prompt, n_valid, ends = (tuple(row) for row in counts)
        ends_visual = tuple(map(bool, ends))
        return cls(batch, length, past, valid, prompt, visual, n_visual, n_text, n_prompt, n_valid, ends_visual)

    @cached_property
    def is_prefill(self) -> bool:
        """Whether this pass brings visual tokens that a schedule may prune."""
        return any(self.n_visual)

    @property
    def candidates(self) -> Tensor:
        """BoolTensor[B, S], the visual tokens alive."""
        return self.visual & self.alive

    @property
    def last_prompt(self) -> Tensor:
        """BoolTensor[B, S], True at the last prompt token of each sample."""
        return _last(self.prompt)

    def drop(self, kept: Tensor, counts: Sequence[int]) -> None:
        """Leave only some of the visual tokens alive.

        Args:
            kept: BoolTensor[B, S], a subset of the candidates.
            counts: How many of each sample.
        """
        gone = [before - after for before, after in zip(self.n_candidates, counts, strict=True)]
        self.alive = self.alive & (~self.visual | kept)
        self.n_alive = tuple(alive - n for alive, n in zip(self.n_alive, gone, strict=True))
        self.n_candidates = tuple(counts)
        self.survivors = Survivors(self.alive, self.n_alive)

    def expect(self, wrong: Tensor, error: PatchError) -> None:
        """Note a check whose outcome stands on the device: BoolTensor[], True if it failed."""
        self._expected.append((wrong, error))

    def verify(self) -> None:
        """Read the outcome of all checks at once, before anybody sees what the pass gave.

        Raises:
            PatchError: the first one that failed.
        """
        if self._expected:
            device = self.valid.device
            wrong = torch.stack([flag.to(device) for flag, _ in self._expected]).tolist()
            error = next((error for failed, (_, error) in zip(wrong, self._expected, strict=True) if failed), None)
            self._expected.clear()
            if error is not None:
                raise error


def _last(prompt: Tensor) -> Tensor:
    return prompt & (prompt.flip(1).cumsum(1).flip(1) == 1)


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
        if not isinstance(mask, Tensor) or mask.shape != shape or mask.dtype != torch.bool:
            raise PatchError(
                f"must be a bool tensor of shape {shape} for this prefill",
                field="visual_mask",
                value=f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__,
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
    return pad(mask, (0, max(0, length - mask.shape[1])))
