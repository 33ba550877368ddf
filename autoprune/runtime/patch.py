"""The patch: hooks on a stock transformers model, one handle, exact undo."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.cache import check_cache
from autoprune.runtime.context import Context, Request, VisualMask, find_visual, read_valid
from autoprune.runtime.decoder import check_attention, decoder_layers, find_decoder, visual_token_ids
from autoprune.runtime.pruner import Pruner, ScoreKey
from autoprune.runtime.report import Report
from autoprune.runtime.reporting import make_report
from autoprune.runtime.scoring import SUPPORTED
from autoprune.schedule import AttentionCriterion, Schedule

_ACTIVE: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Patch]] = weakref.WeakKeyDictionary()
_VISUAL_INPUTS = ("pixel_values", "pixel_values_videos", "image_embeds", "video_embeds", "mm_encoder_outputs")


def apply(
    model: nn.Module,
    schedule: Schedule,
    visual_mask: VisualMask | None = None,
    *,
    scores: Mapping[ScoreKey, Tensor] | None = None,
) -> Patch:
    """Prune visual tokens in a stock transformers model, as a schedule says.

    Works on any model whose ``get_decoder()`` has ``.layers``, also on a text-only decoder fed with `inputs_embeds`.
    Replaces an earlier patch of the same model. The result is a handle and a context manager.

    Args:
        model: The model; its weights and code are not touched.
        schedule: What to prune.
        visual_mask: BoolTensor[batch, seq] or a callable ``(input_ids, inputs_embeds) -> mask``; needed where neither
            placeholder ids nor the model itself tell which positions are visual.
        scores: Scores {(stage layer, criterion): FloatTensor[batch, seq]} recorded beforehand; used instead of
            observing, for stages before which nothing was dropped.

    Raises:
        ModelError: the model is not supported or not the one that the schedule was made for.
        PatchError: the patch would be inactive, or a criterion cannot be computed.
    """
    find_decoder(model)
    schedule.check_model(model.config)
    observed: dict[int, tuple[ScoreKey, ...]] = {}
    for stage in schedule.stages:
        if not stage.selects:
            continue
        if not isinstance(stage.criterion, SUPPORTED):
            raise PatchError(
                "this criterion cannot be computed yet",
                field="criterion.name",
                value=stage.criterion and stage.criterion.name,
                remedy="use attention, diversity, random or uniform",
            )
        if isinstance(stage.criterion, AttentionCriterion) and stage.criterion.at == "previous":
            observed[stage.layer - 1] = ((stage.layer, stage.criterion),)
    return Patch(model, schedule, visual_mask, observed, scores or {})


def active_patch(model: nn.Module) -> Patch | None:
    """The patch that a model carries, if any."""
    reference = _ACTIVE.get(model)
    return reference() if reference else None


class Patch:
    """An applied schedule: a handle, and a context manager that removes it at the end.

    Attributes:
        schedule: What is applied.
        report: What the last prefill kept.
        last_context: The last prefill in detail, for recording.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        visual_mask: VisualMask | None,
        observed: Mapping[int, tuple[ScoreKey, ...]],
        given: Mapping[ScoreKey, Tensor],
    ) -> None:
        self.schedule = schedule
        self.report = Report()
        self._model = model
        self._decoder = find_decoder(model)
        self._layers = decoder_layers(self._decoder)
        self._stages = {stage.layer: stage for stage in schedule.stages}
        self._visual_mask = visual_mask
        self._visual_ids = visual_token_ids(model.config)
        self._observed, self._given = observed, given
        self._request = Request()
        self._pruner: Pruner | None = None
        self.last_context: Context | None = None
        self._lengths: Tensor | int | None = None
        self._prompt_length: int | None = None
        self._undo: list[Callable[[], None]] = []
        check_attention(self._decoder)
        if self._stages and visual_mask is None and not self._visual_ids:
            raise PatchError(
                "nothing tells which positions are visual in this text-only model",
                field="visual_mask",
                value=type(model).__name__,
                remedy="give visual_mask, a bool tensor [batch, seq] or a callable",
            )
        earlier = active_patch(model)
        if earlier is not None:
            earlier.remove()
        self._install()
        _ACTIVE[model] = weakref.ref(self)

    # -- handle ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Undo everything; the model is as it was before. Removing twice does nothing."""
        while self._undo:
            self._undo.pop()()
        if active_patch(self._model) is self:
            del _ACTIVE[self._model]

    @contextmanager
    def prompt(self, lengths: Tensor | int) -> Iterator[Self]:
        """Say where the prompt ends in plain forward calls, so that answers neither vote nor are pruned.

        Args:
            lengths: Index in the (padded) row at which the answer starts, one for all or LongTensor[batch].
        """
        self._lengths = lengths
        try:
            yield self
        finally:
            self._lengths = None

    # -- hooks ----------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        def hook(module: nn.Module, before: Any = None, after: Any = None, always: bool = False) -> None:
            handle = (
                module.register_forward_pre_hook(before, with_kwargs=True)
                if before
                else module.register_forward_hook(after, with_kwargs=True, prepend=not always, always_call=always)
            )
            self._undo.append(handle.remove)

        hook(self._model, before=self._before_model)
        self._override(self._model, "generate", self._generate)
        self._override(self._model, "generate_batch", _refuse_continuous_batching)
        for module in self._model.modules():
            if hasattr(module, "get_placeholder_mask"):
                self._override(module, "get_placeholder_mask", self._watch_placeholders)
        hook(self._decoder, before=self._before_decoder)
        hook(self._decoder, after=self._after_decoder)
        hook(self._decoder, after=self._finish, always=True)
        for i, layer in enumerate(self._layers):
            hook(layer, before=self._layer_entry(i))
            hook(layer, after=self._layer_exit(i))

    def _override(self, module: nn.Module, name: str, wrap: Callable[..., Any]) -> None:
        """Shadow a method by an instance attribute that calls `wrap(method, *args, **kwargs)`."""
        method = getattr(module, name, None)
        if method is None:
            return
        shadowed = module.__dict__.get(name)
        module.__dict__[name] = lambda *args, **kwargs: wrap(method, *args, **kwargs)

        def undo() -> None:
            if shadowed is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = shadowed

        self._undo.append(undo)

    def _layer_entry(self, i: int) -> Callable[..., Any]:
        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return self._pruner.before_layer(i, layer, args, kwargs) if self._pruner else None

        return before

    def _layer_exit(self, i: int) -> Callable[..., Any]:
        def after(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return self._pruner.after_layer(i, output) if self._pruner else None

        return after

    def _before_model(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids")
        if ids is None and args and isinstance(args[0], Tensor) and args[0].ndim == 2:
            ids = args[0]
        labels = kwargs.get("labels")
        first = None
        if labels is not None:
            answered = labels != -100
            first = torch.where(answered.any(1), answered.to(torch.uint8).argmax(1), labels.shape[1])
        self._request = Request(
            input_ids=ids,
            attention_mask=kwargs.get("attention_mask"),
            has_visual_input=any(kwargs.get(name) is not None for name in _VISUAL_INPUTS),
            first_label=first,
        )

    def _watch_placeholders(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        for mask in result if isinstance(result, tuple) else (result,):
            if mask is not None:
                flat = mask.any(-1) if mask.ndim == 3 else mask
                seen = self._request.placeholder
                self._request.placeholder = flat if seen is None else seen | flat
        return result

    def _generate(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        config = kwargs.get("generation_config") or getattr(self._model, "generation_config", None)
        chunk = kwargs.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None)
        if chunk:
            raise PatchError(
                "chunked prefill cannot be pruned: a chunk does not see the whole prompt",
                field="prefill_chunk_size",
                value=chunk,
                remedy="set it to None",
            )
        candidates = (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), kwargs.get("inputs"), *args[:1])
        prompt = next((c for c in candidates if isinstance(c, Tensor)), None)
        self._prompt_length = None if prompt is None else prompt.shape[1]
        try:
            return method(*args, **kwargs)
        finally:
            self._prompt_length = None

    def _before_decoder(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embeds = kwargs.get("inputs_embeds")
        ids = kwargs.get("input_ids", args[0] if args else None)
        reference: Tensor = embeds if embeds is not None else ids  # type: ignore[assignment]
        ids = self._request.input_ids if ids is None else ids
        batch, length = reference.shape[:2]
        ids = ids if ids is not None and tuple(ids.shape) == (batch, length) else None
        cache = kwargs.get("past_key_values")
        if cache is not None and self._stages:
            check_cache(cache)
        past = int(cache.get_seq_length()) if cache is not None else 0
        mask = kwargs.get("attention_mask") if self._request.attention_mask is None else self._request.attention_mask
        valid = read_valid(mask, batch, length, past, reference.device)
        prompt = valid & self._in_prompt(length, past, valid)
        visual, n_visual = torch.zeros_like(valid), [0] * batch
        is_decode_step = length == 1 and past > 0
        grown = self._prompt_length is not None and past >= self._prompt_length
        if not is_decode_step and not grown:
            visual, n_visual = self._locate(ids, embeds, prompt, past)
        context = Context(batch, length, past, valid, prompt, visual, n_visual, alive=valid)
        self._pruner = Pruner(context, self._stages, self._observed, self._given)

    def _in_prompt(self, length: int, past: int, valid: Tensor) -> Tensor | bool:
        """BoolTensor[B or 1, S], or True where everything is prompt."""
        limit = self._lengths
        if limit is None:
            limit = self._prompt_length
        if limit is None:
            limit = self._request.first_label
        if limit is None:
            return torch.ones(1, 1, dtype=torch.bool, device=valid.device)
        columns = torch.arange(length, device=valid.device)[None] + past
        ends = torch.as_tensor(limit, device=valid.device).reshape(-1, 1)
        if len(ends) not in (1, len(valid)):
            raise PatchError(
                f"needs one length, or one for each of the {len(valid)} samples", field="lengths", value=len(ends)
            )
        return columns < ends

    def _locate(self, ids: Tensor | None, embeds: Tensor | None, prompt: Tensor, past: int) -> tuple[Tensor, list[int]]:
        request, shape = self._request, (prompt.shape[0], prompt.shape[1])
        found = find_visual(self._visual_mask, request, ids, embeds, self._visual_ids, shape, self._prompt_length)
        if found is None and (self._stages or self._observed):
            raise PatchError(
                "nothing tells which positions of inputs_embeds are visual",
                field="visual_mask",
                remedy="give visual_mask to apply(), or call the model with input_ids",
            )
        visual = torch.zeros_like(prompt) if found is None else found.to(prompt.device) & prompt
        n_visual = visual.sum(1).tolist()
        if self._stages and request.has_visual_input and not any(n_visual):
            raise PatchError(
                "images or videos were given, but no visual token was found in the prompt",
                field="visual_mask",
                remedy="check the placeholder tokens of the prompt; with labels, set those of the prompt to -100 or "
                "use patch.prompt(lengths); else give visual_mask",
            )
        return visual, n_visual

    def _after_decoder(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        pruner = self._pruner
        if pruner is None:
            return
        pruner.check_complete()
        if pruner.context.past == 0 or pruner.context.is_prefill:
            self.report = make_report(pruner, len(self._layers), bool(self._stages), self._request.attention_mask)
            self.last_context = pruner.context

    def _finish(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Runs also when the pass failed, so that no tap outlives it."""
        if self._pruner is not None:
            self._pruner.close()
        self._pruner = None


def _refuse_continuous_batching(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise PatchError(
        "continuous batching cannot be pruned: it packs several requests into one sequence",
        field="generate_batch",
        remedy="call generate() instead",
    )
