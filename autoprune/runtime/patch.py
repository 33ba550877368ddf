"""The patch: hooks on a stock transformers model behind one handle, with exact undo."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.cache import check_cache, past_length
from autoprune.runtime.call import (
    Calls,
    PassState,
    VisualMask,
    find_visual,
    named_arguments,
    prompt_columns,
    read_request,
    read_valid,
    without_first,
)
from autoprune.runtime.decoder import decoder_layers, find_decoder, visual_mask_names, visual_token_ids
from autoprune.runtime.encoder import Encoder, EncoderPass, tower_scores
from autoprune.runtime.generation import check_generation, forward_arguments, prompt_length, refuse_later_turn
from autoprune.runtime.plan import Plan, ScoreKey, make_plan
from autoprune.runtime.positions import Renumberer
from autoprune.runtime.pruner import Pruner
from autoprune.runtime.refusals import (
    REFUSED_METHODS,
    check_attention,
    check_checkpointing,
    check_mask,
    check_pass,
    check_places,
    check_whole,
    refuse_method,
    refuse_options,
)
from autoprune.runtime.replay import guarded, shadowed
from autoprune.runtime.report import PassNotes, Report
from autoprune.runtime.running import Running, forget_compiled, is_called
from autoprune.runtime.source import schedule_of
from autoprune.runtime.standing import Standing
from autoprune.schedule import Schedule

_ACTIVE: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Patch]] = weakref.WeakKeyDictionary()


def apply(
    model: nn.Module,
    schedule: Schedule | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    visual_mask: VisualMask | None = None,
) -> Patch:
    """Prune visual tokens in a stock transformers model, as a schedule says.

    Works on any model whose ``get_decoder()`` has ``.layers``, also on a text-only decoder fed with `inputs_embeds`.
    Replaces an earlier patch of the same model, which prunes again when a ``with`` block of the new one ends. A forward
    pass that is in progress in another thread stays dense. The result is a handle and a context manager.

    Args:
        model: The model; its weights and code are not touched.
        schedule: What to prune: a schedule, the path of a schedule file, or its JSON object; None = the file
            ``pruning_schedule.json`` beside the weights, in their folder or in their repository on the hub; the handle
            says which file that was (`Patch.source`), and so does the logger ``autoprune``.
        visual_mask: BoolTensor[batch, seq] or a callable ``(input_ids, inputs_embeds) -> mask``; needed where neither
            placeholder ids nor the model itself tell which positions are visual.

    Raises:
        ScheduleError: the schedule cannot be read, or none is given and none is beside the weights.
        RepositoryError, HubError: the schedule of a repository needs a codebook that the hub does not give.
        ModelError: the model is not supported or not the one that the schedule was made for.
        PatchError: the patch would be inactive, a criterion cannot be computed, or another thread is running the model
            with the patch that would be replaced.
    """
    decoder, (wanted, source) = find_decoder(model), schedule_of(model, schedule)
    wanted.check_model(model.config)
    patch = Patch(model, wanted, visual_mask, make_plan(model, decoder, wanted, {}))
    patch.source = source
    return patch


def active_patch(model: nn.Module) -> Patch | None:
    """The patch that a model carries, if any; a wrapper and the model inside share it."""
    reference = _ACTIVE.get(find_decoder(model))
    return reference() if reference else None


class Patch:
    """An applied schedule: a handle, and a context manager that removes it at the end.

    Attributes:
        schedule: What is applied.
        source: The file that it was read from; None if it was given as an object.
        scores: Scores {(stage layer, criterion): FloatTensor[batch, seq]} that the last prefill observed.
        visual: BoolTensor[batch, seq], visual tokens of the last prefill; None before the first.
        standing: Tokens that the last prefill left alive; None before the first.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, visual_mask: VisualMask | None, plan: Plan) -> None:
        self.schedule = schedule
        self.source: Path | None = None
        self._noted: PassNotes | None = None
        self._model, self._decoder = model, plan.decoder
        self._layers = decoder_layers(self._decoder)
        self._plan, self._stages = plan, plan.stages
        self._visual_mask = visual_mask
        self._visual_ids = visual_token_ids(model.config)
        self._visual_masks = visual_mask_names(self._decoder)
        self.scores: dict[ScoreKey, Tensor] = {}
        self.visual: Tensor | None = None
        self.standing: Standing | None = None
        self._renumberer = Renumberer(self._decoder)
        self._encoder = Encoder(model, self._decoder)
        self._calls = Calls(Running())
        self._undo = ExitStack()
        check_mask(visual_mask)
        check_attention(self._decoder)
        check_whole(model)
        if self._stages and visual_mask is None and not self._visual_ids and not self._visual_masks:
            raise PatchError(
                "nothing tells which positions are visual in this text-only model",
                field="visual_mask",
                value=type(model).__name__,
                remedy="give visual_mask, a bool tensor [batch, seq] or a callable",
            )
        self._entered = self._removed = False
        self._replaced = active_patch(model)
        if self._replaced is not None:
            self._replaced._calls.running.close()
            self._replaced._uninstall()
            if not self._replaced._entered:  # it ends no block: what it replaced in its turn need not be kept
                self._replaced._replaced = None
        self._install()

    # -- handle ---------------------------------------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """Report of the last prefill."""
        return Report() if self._noted is None else self._noted.report

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the patch; one that it replaced, and that nobody removed since, prunes again."""
        self.remove()
        earlier, self._replaced = self._replaced, None
        while earlier is not None and earlier._removed:
            earlier = earlier._replaced
        if earlier is not None and active_patch(self._model) is None:
            earlier._install()

    def remove(self) -> None:
        """Undo everything; the model is as it was without any patch. Removing twice does nothing.

        Only the end of a ``with`` block puts back a patch that this one replaced.

        Raises:
            PatchError: another thread is running the model; the patch stays.
        """
        if active_patch(self._model) is self:
            self._calls.running.close()
        self._removed = True
        self._uninstall()

    def _uninstall(self) -> None:
        self._undo.close()
        forget_compiled()
        self._calls.end()
        if active_patch(self._model) is self:
            del _ACTIVE[self._decoder]

    def __reduce__(self) -> NoReturn:
        # A copied model would carry hooks that still act on the original one.
        raise PatchError(
            "a patched model can neither be copied nor pickled",
            field="patch",
            remedy="remove the patch first, and apply the schedule to the copy",
        )

    @contextmanager
    def prompt(self, lengths: Tensor | int) -> Iterator[Self]:
        """Say where the prompt ends in plain forward calls, so that answers neither vote nor are pruned.

        It holds in the thread that says it; a plain call in another thread meanwhile, which says nothing, is refused.

        Args:
            lengths: Index in the (padded) row at which the answer starts, one for all or LongTensor[batch].
        """
        with self._calls.prompt(lengths):
            yield self

    def follow(self, schedule: Schedule, plan: Plan, visual_mask: VisualMask, lengths: Tensor) -> None:
        """Run the passes that come next by another plan, over another batch; the hooks stay where they are."""
        self.schedule, self._plan, self._stages = schedule, plan, plan.stages
        self._visual_mask, self._calls.lengths = visual_mask, lengths

    @property
    def columns(self) -> Tensor | None:
        """As `Pruner.columns`, of the pass in progress."""
        return None if self._calls.pruner is None else self._calls.pruner.columns

    # -- hooks ----------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        def hook(module: nn.Module, before: Any = None, after: Any = None, first: bool = True) -> None:
            handle = (
                module.register_forward_pre_hook(before, with_kwargs=True)
                if before
                else module.register_forward_hook(after, with_kwargs=True, prepend=first)
            )
            self._undo.callback(handle.remove)

        hook(self._model, before=self._before_model)
        self._override(self._model, "generate", self._generate)
        # transformers compiles the decode with a static cache on its own; whoever wants that compiles the model.
        self._override(self._model, "_valid_auto_compile_criteria", lambda *_, **__: False)
        for module in (self._model, self._decoder):
            self._undo.enter_context(guarded(module, self._calls.end))
            for name in REFUSED_METHODS:
                self._override(module, name, partial(refuse_method, name))
        for module in self._model.modules():
            if hasattr(module, "get_placeholder_mask"):
                self._override(module, "get_placeholder_mask", self._watch_placeholders)
                hook(module, before=self._before_embedding)
        hook(self._decoder, before=self._before_decoder)
        hook(self._decoder, after=self._after_decoder)
        hook(self._decoder, after=lambda *_: self._calls.end(), first=False)
        for i, layer in enumerate(self._layers):
            hook(layer, before=self._layer_entry(i))
            hook(layer, after=self._layer_exit(i))
        forget_compiled()
        _ACTIVE[self._decoder] = weakref.ref(self)
        self._calls.running.open()

    def _override(self, module: nn.Module, name: str, wrap: Callable[..., Any]) -> None:
        """Shadow a method by an instance attribute that calls `wrap(method, *args, **kwargs)`."""
        method = getattr(module, name, None)
        if method is not None:
            self._undo.enter_context(shadowed(module, name, lambda *args, **kwargs: wrap(method, *args, **kwargs)))

    def _layer_entry(self, i: int) -> Callable[..., Any]:
        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            pruner = self._calls.pruner
            if pruner is None:
                return None
            if len(args) > 1:
                args, kwargs = args[:1], without_first(layer.forward, args, kwargs)
            return pruner.before_layer(i, layer, args, kwargs)

        return before

    def _layer_exit(self, i: int) -> Callable[..., Any]:
        def after(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            pruner = self._calls.pruner
            return pruner.after_layer(i, output) if pruner else None

        return after

    def _before_model(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._calls.whole = self._calls.begin()
        if not self._calls.whole:
            return
        call = named_arguments(model.forward, args, kwargs)
        self._check(call)
        request = read_request(call)
        if self._plan.encoded and request.has_visual_input and call.get("mm_encoder_outputs") is None:
            if self._calls.encoded_by_generate is not None:  # this generate() leaves the images to the model
                self._calls.encoded_by_generate.close()
            self._calls.encoder = EncoderPass(self._encoder, call)
        self._calls.request = request

    def _check(self, call: Mapping[str, Any]) -> None:
        """Refuse what cannot be pruned; generate() and the model ask before images are encoded."""
        check_attention(self._decoder)
        check_cache(call.get("past_key_values"))
        if self._stages or self._plan.observed:
            check_checkpointing(self._decoder)
            check_pass(call, self._decoder.config)

    def _before_embedding(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # What was marked outside this call, or by one that never came to the decoder, says nothing about this one.
        self._calls.request.placeholder = None

    def _watch_placeholders(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        # A model with audio inputs gives (image, video, audio).
        for mask in result[:2] if isinstance(result, tuple) else (result,):
            self._calls.request.mark(mask)
        return result

    def _generate(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = named_arguments(method, args, kwargs)
        self._check(call)
        refuse_options(call, getattr(self._model, "generation_config", None))
        calls = self._calls
        outer = calls.prompt_length, calls.prompt_ids
        calls.prompt_length, calls.prompt_ids = prompt_length(call), call.get("input_ids")
        inputs = forward_arguments(self._model, call)
        if self._plan.encoded and read_request(inputs).has_visual_input:
            refuse_later_turn(call)
            calls.encoded_by_generate = EncoderPass(self._encoder, inputs)
        try:
            with calls.running.noted():
                return method(*args, **kwargs)
        finally:
            calls.prompt_length, calls.prompt_ids = outer
            if calls.encoded_by_generate is not None:
                calls.encoded_by_generate.close()
                calls.encoded_by_generate = None

    def _before_decoder(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls, call = self._calls, named_arguments(decoder.forward, args, kwargs)
        calls.whole = calls.whole or not is_called(self._model)
        if not (calls.whole and calls.begin()):
            return
        embeds, ids, cache = (call.get(name) for name in ("inputs_embeds", "input_ids", "past_key_values"))
        reference: Any = ids if embeds is None else embeds
        batch, length = reference.shape[:2]
        ids = calls.known_ids(batch, length) if ids is None else ids
        for name in self._visual_masks:
            calls.request.mark(call.get(name))
        self._check(call)
        past = past_length(cache)
        mask = call.get("attention_mask") if calls.request.attention_mask is None else calls.request.attention_mask
        valid = read_valid(mask, batch, length, past, reference.device)
        prompt, visual = torch.zeros_like(valid), None
        is_decode_step = length == 1 and past > 0
        grown = calls.prompt_length is not None and past >= calls.prompt_length
        if not is_decode_step and not grown:
            prompt = valid & prompt_columns(calls, length, past, valid)
            visual = self._locate(ids, embeds, prompt, past)
        state = PassState.of_pass(past, valid, prompt, visual)
        if visual is not None:
            self._check_found(state)
        if state.is_prefill and self._stages and not calls.knows_prompt:
            check_generation(decoder, cache is not None)
        if state.is_prefill and self._stages:
            check_places(decoder.config, past + length)
        if past == 0 or state.is_prefill:
            self.visual = state.visual
        if state.is_prefill and self._plan.encoded:
            state.tower = tower_scores(calls.encoder or calls.encoded_by_generate, state.visual, state.n_visual)
        calls.pruner = Pruner(state, self._plan, self._renumberer)

    def _locate(self, ids: Tensor | None, embeds: Tensor | None, prompt: Tensor, past: int) -> Tensor:
        """BoolTensor[B, S], the visual tokens of the prompt."""
        request, shape = self._calls.request, (prompt.shape[0], prompt.shape[1])
        until = self._calls.prompt_length
        found = find_visual(self._visual_mask, request.placeholder, ids, embeds, self._visual_ids, shape, past, until)
        if found is None and (self._stages or self._plan.observed):
            raise PatchError(
                "nothing tells which positions of inputs_embeds are visual",
                field="visual_mask",
                remedy="give visual_mask to apply(), or call the model with input_ids",
            )
        return torch.zeros_like(prompt) if found is None else found.to(prompt.device) & prompt

    def _check_found(self, state: PassState) -> None:
        if self._stages and self._calls.request.has_visual_input and not state.is_prefill:
            raise PatchError(
                "images or videos were given, but no visual token was found in the prompt",
                field="visual_mask",
                remedy="check the placeholder tokens of the prompt; with labels, set those of the prompt to -100 or "
                "use patch.prompt(lengths); else give visual_mask",
            )

    def _after_decoder(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        pruner, request = self._calls.pruner, self._calls.request
        if pruner is None:
            return
        pruner.check_complete()
        pruner.restore_embeddings(output)
        state = pruner.state
        if state.past == 0 or state.is_prefill:
            self._noted = PassNotes(pruner, len(self._layers), bool(self._stages), request.attention_mask)
            self.scores, self.standing = state.scores, Standing.of(state)
