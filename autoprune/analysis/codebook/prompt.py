"""A prompt run many times with some of its visual tokens removed or replaced, in few and short batches.

The model is run once, with its vision tower. What its text model was called with is kept, and each probe is a cut of
that call: the columns that are left, with the positions they had. Columns before the first change are those of the
dense pass, so their keys and values are taken from it, where the attention is causal.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from autoprune.analysis.codebook.probe_call import ProbeCall
from autoprune.analysis.refusals import check_prompt
from autoprune.errors import ModelError
from autoprune.runtime import record
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.replay import captured_call, substituted_call

_TOKENS_AT_ONCE = 8192
"""Columns of one batch of probes, padding included."""

Fill = Literal["mean", "pad"]


@dataclass(frozen=True)
class Probe:
    """One version of a prompt.

    Attributes:
        kept: BoolTensor[n_visual], visual tokens that stay; the others are removed, and positions do not close up.
        filled: BoolTensor[n_visual], those of them whose embedding is replaced.
        fill: By what: the mean visual token of the prompt, or the embedding of the pad token.
    """

    kept: Tensor
    filled: Tensor
    fill: Fill = "mean"


class ProbedPrompt:
    """One sample whose dense pass is recorded, and from which probes are run.

    Attributes:
        visual: BoolTensor[S], visual tokens.
        features: [n_visual, d], visual tokens as they enter the decoder.
        logits: FloatTensor[V], what the dense model predicts at the first answer token.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Any], pad: Tensor | None = None) -> None:
        """Runs the model once.

        Args:
            model: The model, in eval mode.
            inputs: Its inputs, one sample without padding.
            pad: [d], embedding of the pad token; needed for probes that are filled with it.

        Raises:
            DataError: the sample has no visual token, is a batch, or does not end in text.
            ModelError: the model cannot be called without its images, or its text model is called with what cannot be
                cut.
        """
        self._model, self._decoder = model, find_decoder(model)
        _check_call(model)
        layers = decoder_layers(self._decoder)
        attentions = [attention_of(self._decoder, layer) for layer in layers]
        self._cached = all(part is not None and getattr(part, "is_causal", True) for part in attentions)
        self._cache: Any = DynamicCache() if self._cached else None
        with torch.no_grad(), captured_call(self._decoder) as call, record(model, []) as recording:
            run = model(**inputs, past_key_values=self._cache, use_cache=self._cached, logits_to_keep=1)
            visual = recording.visual_mask
        check_prompt(visual, inputs.get("attention_mask"))
        self.visual, self.logits = visual[0], run.logits[0, -1].float()
        self._dense = ProbeCall(call, self.visual, pad)
        self._cached = self._cached and self._dense.causal
        self.features: Tensor = call["inputs_embeds"][0, self.visual]
        self._columns = self.visual.nonzero()[:, 0]

    def run(self, probes: Sequence[Probe]) -> Tensor:
        """Logits at the first answer token, FloatTensor[n, V], in the order of the probes."""
        starts = [self._start(probe) for probe in probes]
        rows = [self._rows(probe, start) for probe, start in zip(probes, starts, strict=True)]
        found: list[Tensor] = [self.logits] * len(probes)
        # Probes that share the most of the dense pass come together.
        order = sorted(range(len(probes)), key=lambda i: (starts[i], len(rows[i])))
        while order:
            # The batch starts where its first probe does; what the others share beyond that is computed again.
            start, size, width = starts[order[0]], 0, 0
            for i in order:
                width = max(width, len(rows[i]) + starts[i] - start)
                if size and (size + 1) * width > _TOKENS_AT_ONCE:
                    break
                size += 1
            batch, order = order[:size], order[size:]
            part = self._forward([probes[i] for i in batch], [self._rows(probes[i], start) for i in batch], start)
            for i, logits in zip(batch, part, strict=True):
                found[i] = logits
        return torch.stack(found)

    def _start(self, probe: Probe) -> int:
        """First column that is not as in the dense pass; with nothing changed, the first visual one."""
        changed = self._columns[~probe.kept | probe.filled]
        return int((changed if len(changed) else self._columns)[0]) if self._cached else 0

    def _rows(self, probe: Probe, start: int) -> Tensor:
        """The columns from `start` on that are left."""
        left = torch.ones_like(self.visual)
        left[self._columns[~probe.kept]] = False
        left[:start] = False
        return left.nonzero()[:, 0]

    def _forward(self, probes: list[Probe], rows: list[Tensor], start: int) -> Tensor:
        call = self._dense.columns(rows, [(probe.filled, probe.fill) for probe in probes], start)
        call |= {"past_key_values": self._prefix(start, len(probes)), "use_cache": start > 0}
        # The outer model must only hand this on to its text model, which is then called as the dense one was.
        handed_on = {name: call[name] for name in ("inputs_embeds", "position_ids", "past_key_values", "use_cache")}
        with torch.no_grad(), substituted_call(self._decoder, call):
            logits: Tensor = self._model(**handed_on, logits_to_keep=1).logits
        return logits[:, -1].float()

    def _prefix(self, start: int, batch: int) -> DynamicCache | None:
        """A cache of the dense keys and values of the columns before `start`, for each probe."""
        if not start or self._cache is None:
            return None
        cache = DynamicCache()
        for i, layer in enumerate(self._cache.layers):
            dense: Any = layer
            keys, values = (t[:, :, :start].expand(batch, -1, -1, -1) for t in (dense.keys, dense.values))
            cache.update(keys, values, i)
        return cache


def _check_call(model: Any) -> None:
    """Refuse models that want images in every call; a probe brings embeddings."""
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            raise ModelError(
                f"wants {name} in every call, so that probes cannot reuse what its vision tower gave",
                field="model",
                value=type(model).__name__,
                remedy="choose another criterion: diversity needs no codebook",
            )
