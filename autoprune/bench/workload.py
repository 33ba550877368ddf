"""The prompt that is timed: made-up embeddings straight into the text model, so that its token counts are free."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune.evaluate.timing import synchronize
from autoprune.runtime.decoder import find_decoder


@dataclass(frozen=True)
class Times:
    """One run, for the whole batch.

    Attributes:
        decoder_ms: Prefill of the text model: all that stands between embeddings and the last norm.
        prefill_ms: The same and the head on one row, which gives the first token.
        decode_ms: One more token, head included; mean over the decode steps; None if there were none.
    """

    decoder_ms: float
    prefill_ms: float
    decode_ms: float | None


class Workload:
    """A batch of prompts, the image first and the text after it, and the tokens generated from them.

    Vision tower and projector are not run: pruning does not change what they cost.

    Args:
        model: The model.
        batch_size: Prompts.
        visual_tokens: Visual tokens of each.
        text_tokens: Text tokens of each.
        new_tokens: Tokens to generate: the first comes out of the prefill, each other one is a decode step.
    """

    def __init__(self, model: Any, batch_size: int, visual_tokens: int, text_tokens: int, new_tokens: int) -> None:
        self.decoder: Any = find_decoder(model)
        self._head = model.get_output_embeddings()
        self._steps = new_tokens - 1
        self.device = next(self.decoder.parameters()).device
        length, width = visual_tokens + text_tokens, int(model.config.get_text_config(decoder=True).hidden_size)
        generator = torch.Generator().manual_seed(0)
        numbers = torch.randn(batch_size, length + 1, width, generator=generator).to(self.device, model.dtype)
        self._prompt, self._token = numbers[:, :length].contiguous(), numbers[:, length:].contiguous()
        self.visual_mask = (torch.arange(length, device=self.device) < visual_tokens).expand(batch_size, -1)

    def run(self, decode: bool = True) -> tuple[Times, Any]:
        """Prefill once, and decode if asked to.

        Returns:
            The times, and the cache after the last step.
        """
        steps = self._steps if decode else 0
        with torch.no_grad():
            marks = [self._now()]
            cache, last = self.prefill()
            marks.append(self._now())
            self._read(last)
            marks.append(self._now())
            for _ in range(steps):
                self._read(self.decoder(inputs_embeds=self._token, past_key_values=cache, use_cache=True)[0])
            marks.append(self._now())
        decoder, head, rest = (1000 * (after - before) for before, after in itertools.pairwise(marks))
        return Times(decoder, decoder + head, rest / steps if steps else None), cache

    def prefill(self) -> tuple[Any, Tensor]:
        """The text model on the prompt: its cache, and the last hidden state of each prompt [B, S or less, d]."""
        with torch.no_grad():
            output = self.decoder(inputs_embeds=self._prompt, use_cache=True)
        return output.past_key_values, output[0]

    def _read(self, hidden: Tensor) -> None:
        self._head(hidden[:, -1:])

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()


def kv_bytes(cache: Any) -> int:
    """Bytes of all keys and values that a cache holds."""
    layers = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    return sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))
