"""Withdrawal before every layer at once, from one dense pass.

After withdrawal before layer k only text is left, and of the text only what follows the first visual token differs from
the dense pass. So one dense pass is recorded, and then each decoder layer i runs once on a stack of i + 1 short
sequences: the tails of the candidates k = 0..i.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from autoprune.errors import DataError
from autoprune.runtime import record
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.frame import take
from autoprune.runtime.masks import pruned_mask


class PrefixKeys:
    """Stands in for a cache: puts the keys and values of the tokens before the image in front of each tail's own."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, before + m, d] of this call."""
        batch = keys.shape[0]
        before = (t.expand(batch, -1, -1, -1) for t in (self._keys, self._values))
        return tuple(torch.cat(pair, 2) for pair in zip(before, (keys, values), strict=True))  # type: ignore[return-value]

    def get_seq_length(self, *_: Any) -> int:
        """Tokens before the tails."""
        return int(self._keys.shape[2])


@dataclass
class DenseRun:
    """One dense pass over one sample: what entered each layer, its arguments, and its keys and values."""

    logits: Tensor
    visual: Tensor
    inputs: list[Tensor]
    kwargs: list[dict[str, Any]]
    cache: Any


def run_dense(model: nn.Module, inputs: dict[str, Any], visual_mask: Tensor | None) -> DenseRun:
    """Run a sample (batch 1) densely and keep what the tails need.

    Raises:
        DataError: the sample has no visual token, does not end in text, or is padded at its end.
    """
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 2 and not bool(mask[:, -1].all()):
        raise DataError(
            "must not be padded at its end", field="attention_mask", remedy="pad on the left, or not at all"
        )
    layers = decoder_layers(find_decoder(model))
    entered: list[Tensor] = []
    kwargs: list[dict[str, Any]] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], call: dict[str, Any]) -> None:
        entered.append(args[0] if args else call["hidden_states"])
        kwargs.append({name: value for name, value in call.items() if name != "hidden_states"})

    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(keep, with_kwargs=True).remove)
        recording = stack.enter_context(record(model, [], visual_mask))
        # A cache without sliding layers: those would forget the tokens before the image.
        out = model(**inputs, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        visual = recording.visual_mask
    if visual.shape[0] != 1:
        raise DataError("must hold one sample, not a batch", field="samples", value=tuple(visual.shape))
    if not bool(visual.any()):
        raise DataError("has no visual token", field="samples", remedy="give samples with an image, or a visual_mask")
    if bool(visual[0, -1]):
        raise DataError("must end in text", field="samples", remedy="put the question after the image")
    return DenseRun(out.logits[0, -1], visual, entered, kwargs, out.past_key_values)


def withdrawn_logits(model: nn.Module, run: DenseRun) -> Tensor:
    """Logits at the last prompt token after withdrawal before each layer: FloatTensor[L, V]."""
    layers = decoder_layers(find_decoder(model))
    text = (~run.visual[0]).nonzero()[:, 0]
    first = int(run.visual[0].to(torch.uint8).argmax())
    before, after = text[text < first], text[text >= first]
    if _sees_visual(run, before):  # prefix-LM masks: then nothing can be reused
        before, after = before[:0], text
    rows = after[None]
    stack = run.inputs[0][:, :0]
    masks: dict[int, Tensor | None] = {}
    with torch.no_grad():
        for i, layer in enumerate(layers):
            entering = take(run.inputs[i], rows, 1)
            stack = torch.cat([stack, entering]) if i else entering
            base = run.kwargs[i].get("attention_mask")
            if id(base) not in masks:
                columns = torch.cat([before, after])[None]
                masks[id(base)] = pruned_mask(
                    base, rows, rows, columns, torch.ones_like(columns, dtype=torch.bool), True, 0
                )
            call = _cut(run.kwargs[i], rows, run.visual.shape[1])
            call["attention_mask"] = masks[id(base)]
            cached = run.cache.layers[i]
            call["past_key_values"] = PrefixKeys(cached.keys[:, :, : len(before)], cached.values[:, :, : len(before)])
            output = layer(stack, **call)
            stack = output[0] if isinstance(output, tuple) else output
        return head_logits(model, stack[:, -1:])


def _sees_visual(run: DenseRun, before: Tensor) -> bool:
    """Whether a token before the image attends to it in some layer."""
    visual = run.visual[0].nonzero()[:, 0]
    bases = {id(k.get("attention_mask")): k.get("attention_mask") for k in run.kwargs}
    for base in bases.values():
        if base is None or not len(before):
            continue
        block = base[0, :, before][:, :, visual]
        if bool((block if block.dtype == torch.bool else block > torch.finfo(block.dtype).min / 2).any()):
            return True
    return False


def _cut(kwargs: dict[str, Any], rows: Tensor, length: int) -> dict[str, Any]:
    """A layer's arguments for the rows of the tails."""
    call = dict(kwargs)
    for name, value in kwargs.items():
        if name == "position_embeddings":
            call[name] = tuple(take(t, rows, t.ndim - 2) for t in value)
        elif name == "position_ids" and isinstance(value, Tensor):
            call[name] = take(value, rows, value.ndim - 1)
        elif isinstance(value, Tensor) and value.ndim in (2, 3) and value.shape[:2] == (1, length):
            call[name] = take(value, rows, 1)
    return call


def head_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """The model's own final norm and head on hidden states [B, 1, d] that left the last layer: FloatTensor[B, V].

    The model runs with its layers short-circuited, so that scalings and soft caps of any family apply.
    """
    layers = decoder_layers(find_decoder(model))
    with ExitStack() as stack:
        for i, layer in enumerate(layers):
            if "forward" in layer.__dict__:
                stack.callback(layer.__dict__.__setitem__, "forward", layer.__dict__["forward"])
            else:
                stack.callback(layer.__dict__.pop, "forward")
            layer.__dict__["forward"] = (lambda *a, **k: hidden) if i == 0 else _identity
        logits: Tensor = model(inputs_embeds=torch.zeros_like(hidden), use_cache=False).logits
    return logits[:, -1]


def _identity(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states
