"""The prompt that is timed, and the time and memory that one run of it takes.

The prompt is made-up embeddings straight into the text model, so that its token counts are free.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoprune.evaluate.timing import now
from autoprune.models.environment import resident_bytes
from autoprune.runtime.decoder import find_decoder

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class RunTimes:
    """Times of one run, for the whole batch.

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
        self.batch_size, self.visual_tokens = batch_size, visual_tokens
        self.decoder: Any = find_decoder(model)
        self._head = model.get_output_embeddings()
        self._steps = new_tokens - 1
        self.device = next(self.decoder.parameters()).device
        length, width = visual_tokens + text_tokens, int(model.config.get_text_config(decoder=True).hidden_size)
        generator = torch.Generator().manual_seed(0)
        numbers = torch.randn(batch_size, length + 1, width, generator=generator).to(self.device, model.dtype)
        self._prompt, self._token = numbers[:, :length].contiguous(), numbers[:, length:].contiguous()
        self.visual_mask = (torch.arange(length, device=self.device) < visual_tokens).expand(batch_size, -1)

    def run(self, decode: bool = True) -> tuple[RunTimes, Any]:
        """Prefill once, and decode if asked to.

        Returns:
            The times, and the cache after the last step.
        """
        steps = self._steps if decode else 0
        with torch.no_grad():
            marks = [now(self.device)]
            cache, last = self.prefill()
            marks.append(now(self.device))
            self._read(last)
            marks.append(now(self.device))
            for _ in range(steps):
                self._read(self.decoder(inputs_embeds=self._token, past_key_values=cache, use_cache=True)[0])
            marks.append(now(self.device))
        decoder, head, rest = (1000 * (after - before) for before, after in itertools.pairwise(marks))
        return RunTimes(decoder, decoder + head, rest / steps if steps else None), cache

    def prefill(self) -> tuple[Any, Tensor]:
        """The text model on the prompt: its cache, and the last hidden state of each prompt [B, S or less, d]."""
        with torch.no_grad():
            output = self.decoder(inputs_embeds=self._prompt, use_cache=True)
        return output.past_key_values, output[0]

    def _read(self, hidden: Tensor) -> None:
        self._head(hidden[:, -1:])


def kv_bytes(cache: Any) -> int:
    """Bytes of all keys and values that a cache holds."""
    layers = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    return sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))


@dataclass(frozen=True)
class Memory:
    """Peak memory of one call.

    Attributes:
        peak_bytes: The most that was held at once, weights included; None where nothing counts it.
        growth_bytes: That, less what was held before the call.
        how: Who counted.
    """

    peak_bytes: int | None
    growth_bytes: int | None
    how: str


def measure_memory(device: torch.device, call: Callable[[], Any]) -> Memory:
    """Run a call and measure its peak memory.

    On CUDA this is what PyTorch's allocator handed out. On a CPU it is the peak of the process's resident memory, which
    Linux keeps and lets us reset; elsewhere nothing exact is at hand, and nothing is claimed.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return Memory(peak, peak - before, "PyTorch's CUDA allocator")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if resident_bytes("VmRSS") else None
    if trim is None or not _reset_peak():
        call()
        return Memory(None, None, "not measured: the operating system keeps no peak that can be reset")
    trim(0)  # freed pages that the allocator kept would hide what the call takes
    _reset_peak()
    before = resident_bytes("VmRSS")
    call()
    peak = resident_bytes("VmHWM")
    return Memory(peak, peak - before, "resident memory of the process, Linux")


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True
