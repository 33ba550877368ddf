"""The dense pass over a batch, recorded, so that a schedule runs only the layers from its first stage on.

The record holds the arguments of the text model, the output of every layer, the dense KV cache, and the scores that a
first stage at any layer would use. A replay calls the whole model with the recorded embeddings, so that its own loop,
norm, head and anything between layers stay in force; layers before the first stage return their recorded output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from autoprune.evaluate.encoding import Forced
from autoprune.runtime import ScoreKey, apply_recorded, record
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.replay import captured_call, collected_outputs, recorded_outputs, substituted_call
from autoprune.schedule import Reads, Schedule


@dataclass
class Recorded:
    """Layer outputs and KV cache of a dense pass: large, and computed again from the rest of the record."""

    outputs: list[Any]
    cache: Any

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        tensors = [_tensor(output) for output in self.outputs]
        tensors += [tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass
class Replay:
    """Result of one schedule on one batch.

    Attributes:
        logits: [B, width, vocabulary], the columns that predict the continuations.
        visual_tokens: LongTensor[L, B], visual tokens alive in each layer.
        cache: KV cache; the layers that were not run are empty until `select`.
        entry: First layer that was run.
        recorded: Dense layer outputs and cache that it was run on.
    """

    logits: Tensor
    visual_tokens: Tensor
    cache: Any
    entry: int
    recorded: Recorded

    def select(self, rows: Tensor) -> Any:
        """The complete cache of some rows: layers that were not run get the dense one. Uses the replay up."""
        self.cache.batch_select_indices(rows)
        for i in range(self.entry):
            layer = copy.copy(self.recorded.cache.layers[i])
            layer.batch_select_indices(rows)
            self.cache.layers[i] = layer
        return self.cache


class DensePrefix:
    """The recorded dense pass over one batch.

    Attributes:
        forced: The batch.
        logits: [B, width, vocabulary], dense logits.
        position_ids: Position ids [..., B, S] as `generate` would set them.
        visual_mask: BoolTensor[B, S], visual tokens of the prompts.
        scores: Scores that a first stage would use, for each of the keys.
        recorded: Layer outputs and cache; None after `forget`.
    """

    def __init__(self, model: Any, forced: Forced, keys: Iterable[ScoreKey]) -> None:
        self.forced = forced
        self._model = model
        self._decoder = find_decoder(model)
        self._layers: Sequence[nn.Module] = decoder_layers(self._decoder)
        self._text_call: dict[str, Any]
        self.position_ids: Tensor = model._prepare_position_ids_for_generation(
            forced.inputs["input_ids"], dict(forced.inputs)
        )
        self.recorded: Recorded | None
        self.logits, self.recorded, self.scores, self.visual_mask = self._dense_pass(keys)

    def forget(self) -> None:
        """Drop layer outputs and cache; the next replay computes them again, without the vision tower."""
        self.recorded = None

    def replay(self, schedule: Schedule) -> Replay:
        """Run a schedule on the batch.

        Raises:
            PatchError: a criterion cannot be computed on this batch.
        """
        recorded, cache, entry = self.ensure_recorded(), self._new_cache(), self._entry(schedule)
        with (
            torch.no_grad(),
            # Before the patch, so that its own hooks see the recorded call.
            self._substituted(cache),
            apply_recorded(self._model, schedule, self.visual_mask, self.scores) as patch,
            patch.prompt(self.forced.ends),
            recorded_outputs(zip(self._layers, recorded.outputs[:entry], strict=False)),
        ):
            logits = self._call(cache)
        return Replay(logits, patch.report.visual_tokens, cache, entry, recorded)

    def rerun(self, entry: int) -> Tensor:
        """Logits [B, width, vocabulary] with the layers from `entry` on run again, with the hooks they carry."""
        recorded, cache = self.ensure_recorded(), self._new_cache()
        known = zip(self._layers, recorded.outputs[:entry], strict=False)
        with torch.no_grad(), self._substituted(cache), recorded_outputs(known):
            return self._call(cache)

    def ensure_recorded(self) -> Recorded:
        """Layer outputs and cache, computed again if they were dropped."""
        if self.recorded is None:
            cache = self._new_cache()
            with torch.no_grad(), self._substituted(cache), collected_outputs(self._layers) as outputs:
                self._call(cache)
            self.recorded = Recorded(outputs, cache)
        return self.recorded

    def _entry(self, schedule: Schedule) -> int:
        """First layer that has to be run for a schedule."""
        for stage in schedule.stages:
            if stage.keep.ratio == 1.0:
                continue
            criterion = stage.criterion
            if criterion is not None and criterion.reads is Reads.LAYER_BEFORE:
                known = (stage.layer, criterion) in self.scores
                return stage.layer if known else stage.layer - 1
            return stage.layer
        return len(self._layers) - 1

    def _dense_pass(self, keys: Iterable[ScoreKey]) -> tuple[Tensor, Recorded, dict[ScoreKey, Tensor], Tensor]:
        cache = self._new_cache()
        with (
            torch.no_grad(),
            captured_call(self._decoder) as self._text_call,
            record(self._model, keys) as recording,
            collected_outputs(self._layers) as outputs,
            recording.prompt(self.forced.ends),
        ):
            logits = self._model(
                **self.forced.inputs,
                position_ids=self.position_ids,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=self.forced.width,
            ).logits[:, -self.forced.width :]  # some models give all columns
            return logits, Recorded(outputs, cache), dict(recording.scores), recording.visual_mask

    def _call(self, cache: Any) -> Tensor:
        logits: Tensor = self._model(
            inputs_embeds=self._text_call["inputs_embeds"],
            attention_mask=self.forced.inputs["attention_mask"],
            position_ids=self.position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=self.forced.width,
        ).logits[:, -self.forced.width :]
        return logits

    def _new_cache(self) -> Any:
        return DynamicCache(config=self._model.config.get_text_config(decoder=True))

    def _substituted(self, cache: Any) -> AbstractContextManager[None]:
        """The text model is called as it was in the dense pass, with another cache."""
        return substituted_call(self._decoder, {**self._text_call, "past_key_values": cache})


def _tensor(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
