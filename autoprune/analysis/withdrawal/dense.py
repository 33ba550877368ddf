"""One recorded dense pass over one sample: what enters each layer at the text tokens, and the layer's arguments.

With `max_new_tokens` above 1 the pass is the model's own greedy decoding: prefill and decode steps together hold what a
teacher-forced pass over prompt and answer would, also in models that read a prompt without a causal mask.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from autoprune.analysis.refusals import check_prompt
from autoprune.errors import ModelError
from autoprune.evaluate.greedy import reference_answers
from autoprune.runtime import record
from autoprune.runtime.call import without_first
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.recording import Recording
from autoprune.runtime.replay import collected_outputs, hooked
from autoprune.runtime.survivors import take


@dataclass
class LayerCalls:
    """Calls of one layer as one: the prefill, then one decode step for each token of the answer but the last.

    Attributes:
        inputs: [1, m, d], hidden states that enter at the text tokens of prompt and answer.
        arguments: The further arguments, cut down to the text tokens; the mask and the cache are left out.
        masks: The model's own mask of each call.
        axes: {argument that runs along the tokens: its token axis, counted from the end}.
    """

    inputs: Tensor
    arguments: dict[str, Any]
    masks: list[Tensor | None]
    axes: dict[str, int]


@dataclass
class DenseRun:
    """Record of one dense pass; only its masks and its cache still hold the image.

    Attributes:
        visual: BoolTensor[S], visual tokens of the prompt.
        text: LongTensor[m], columns of the other tokens, those of the answer included.
        lengths: Tokens of each call: S, 1, 1 …
        layers: The calls of each layer.
        outputs: [1, T, d], outputs of the last layer where the T answer tokens are predicted.
        as_tuple: Whether layers return a tuple.
        cache: The dense KV cache.
        answer: The T answer tokens; empty where only the prompt was run.
    """

    visual: Tensor
    text: Tensor
    lengths: list[int]
    layers: list[LayerCalls]
    outputs: Tensor
    as_tuple: bool
    cache: Any
    answer: list[int]


def run_dense(model: Any, inputs: dict[str, Any], visual_mask: Tensor | None, max_new_tokens: int = 1) -> DenseRun:
    """Run a sample (batch 1) densely and record what `tails` needs.

    Args:
        model: The model.
        inputs: Its inputs.
        visual_mask: BoolTensor[1, S], or None where the model tells which tokens are visual.
        max_new_tokens: Longest answer to decode; 1 = only the prompt is run.

    Raises:
        DataError: the sample has no visual token, does not end in text, or is a batch.
        ModelError: the answer holds the placeholder of an image, or its calls cannot be joined.
    """
    decoder = find_decoder(model)
    layers = decoder_layers(decoder)
    # A cache without sliding layers, which would forget the tokens before the image; recurrent layers need their own.
    recurrent = any(attention_of(decoder, layer) is None for layer in layers)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True)) if recurrent else DynamicCache()
    call = {**inputs, "past_key_values": cache}
    answer: list[int] = []
    with ExitStack() as stack, torch.no_grad():
        recording = stack.enter_context(record(model, [], visual_mask))
        recorders = [_CallRecorder(recording) for _ in layers]
        for layer, recorder in zip(layers, recorders, strict=True):
            stack.enter_context(hooked(layer, before=recorder.before))
        outputs = stack.enter_context(collected_outputs(layers[-1:]))
        if max_new_tokens == 1:
            model(**call, use_cache=True, logits_to_keep=1)
        else:
            answer = reference_answers(model, call, max_new_tokens, padding=0).tokens[0]
        visual = recording.visual_mask[0]
    # `generate` may have looked beyond the end of the answer.
    used = max(len(answer), 1)
    lengths = [len(visual)] + [1] * (used - 1)
    text = torch.cat([(~visual).nonzero()[:, 0], len(visual) + torch.arange(used - 1, device=visual.device)])
    joined = [recorder.joined(used) for recorder in recorders]
    as_tuple = isinstance(outputs[0], tuple)
    predicting = torch.cat([(output[0] if as_tuple else output)[:, -1:] for output in outputs[:used]], 1)
    return DenseRun(visual, text, lengths, joined, predicting, as_tuple, cache, answer)


@dataclass
class _CallRecorder:
    """Calls of one layer, as they come; of the prefill without the visual tokens."""

    recording: Recording
    inputs: list[Tensor] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    masks: list[Tensor | None] = field(default_factory=list)
    axes: dict[str, int] = field(default_factory=dict)

    def before(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # By name: how an argument is passed may differ from the prefill to the decode steps.
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        call = without_first(layer.forward, args, kwargs)
        self.masks.append(call.pop("attention_mask", None))
        call.pop("past_key_values", None)
        if not self.calls:
            visual = self.recording.visual_mask
            check_prompt(visual)
            rows = (~visual[0]).nonzero()[:, 0][None]
            hidden = take(hidden, rows, 1)
            for name, value in call.items():
                if (axis := _sequence_axis(name, value, visual.shape[1])) is not None:
                    self.axes[name] = axis
                    call[name] = cut(value, rows, axis)
        self.inputs.append(hidden)
        self.calls.append(call)

    def joined(self, used: int) -> LayerCalls:
        """The first `used` calls as one."""
        call = dict(self.calls[0])
        for name, axis in self.axes.items():
            call[name] = _join(name, [later.get(name) for later in self.calls[:used]], axis)
        return LayerCalls(torch.cat(self.inputs[:used], 1), call, self.masks[:used], self.axes)


def _sequence_axis(name: str, value: Any, length: int) -> int | None:
    """Axis, counted from the end, along which an argument of a layer runs with the tokens; None if it does not."""
    if name == "position_embeddings" and value is not None:
        return -2
    if not isinstance(value, Tensor):
        return None
    if name == "position_ids":
        return -1
    return 1 - value.ndim if value.ndim >= 2 and tuple(value.shape[:2]) == (1, length) else None


def cut(value: Any, rows: Tensor, axis: int) -> Any:
    """Rows [1, m] of a tensor, or of each of a tuple of tensors, along an axis counted from the end."""
    if isinstance(value, tuple):
        return tuple(cut(part, rows, axis) for part in value)
    return take(value, rows, value.ndim + axis)


def _join(name: str, values: list[Any], axis: int) -> Any:
    if any(value is None for value in values):
        raise ModelError(
            f"its layers take {name} in the prefill, but not in decoding",
            field="model",
            remedy="look at the first answer token only, with max_new_tokens 1",
        )
    if isinstance(values[0], tuple):
        return tuple(torch.cat(parts, axis) for parts in zip(*values, strict=True))
    return torch.cat(values, axis)
