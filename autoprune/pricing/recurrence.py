"""Layers that read the sequence in order, without attention: short convolutions, and the gated delta rule.

They are priced as transformers computes them in PyTorch and an operation counter sees it: matrix products and
convolutions. What the delta rule does besides counts as nothing: the triangular system that it solves in each chunk of
a prompt, and its decode step, which is element by element. Fused kernels do the same work in other steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_CHUNK = 64  # tokens that the delta rule takes at a time, as transformers calls it


@dataclass(frozen=True)
class Recurrence:
    """What a layer does along the sequence; its states have a size of their own, whatever the number of tokens.

    Attributes:
        channels: Channels of the convolution, each with a filter of its own.
        kernel: Length of the filters.
        delta_heads: Value heads of the gated delta rule (arXiv 2412.06464); 0 = the layer is the convolution alone.
        key_dim: Width of a key of one head.
        value_dim: Width of a value of one head.
    """

    channels: int
    kernel: int
    delta_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0

    def prefill_macs(self, tokens: int) -> int:
        """Multiply-adds over a prompt; the convolution runs on its padding too, the delta rule on whole chunks."""
        filtered = max(tokens, self.kernel) + self.kernel - 1
        padded = -(-tokens // _CHUNK) * _CHUNK
        within = _CHUNK * (2 * self.key_dim + self.value_dim)  # keys by keys, queries by keys, weights by values
        states = 3 * self.key_dim * self.value_dim  # read by keys, read by queries, written
        return filtered * self.channels * self.kernel + padded * self.delta_heads * (within + states)

    @property
    def step_macs(self) -> int:
        """Multiply-adds of one generated token: its own output of the filter, and one before it."""
        return 2 * self.channels * self.kernel


def _short_convolution(text: Any) -> tuple[int, int, Recurrence]:
    """LFM2 (arXiv 2511.23404): two gates and an input of the convolution, all as wide as the stream."""
    hidden = text.hidden_size
    return 3 * hidden * hidden, hidden * hidden, Recurrence(hidden, text.conv_L_cache)


def _delta_rule(text: Any) -> tuple[int, int, Recurrence]:
    """Query, key and value are filtered; each value head has a decay and a rate, each number of the output a gate."""
    hidden, heads = text.hidden_size, text.linear_num_value_heads
    keys = text.linear_num_key_heads * text.linear_key_head_dim
    values = heads * text.linear_value_head_dim
    recurrence = Recurrence(
        2 * keys + values, text.linear_conv_kernel_dim, heads, text.linear_key_head_dim, text.linear_value_head_dim
    )
    return hidden * (2 * keys + values + 2 * heads), 2 * hidden * values, recurrence


_Parts = Callable[[Any], tuple[int, int, Recurrence]]
_LFM: dict[str, _Parts] = {"conv": _short_convolution}
_QWEN3_5: dict[str, _Parts] = {"linear_attention": _delta_rule}
RECURRENT: dict[str, dict[str, _Parts]] = {
    "lfm2": _LFM,
    "lfm3": _LFM,
    "qwen3_5_moe_text": _QWEN3_5,
    "qwen3_5_text": _QWEN3_5,
}
"""By text model type and kind of layer: projections of one token before and behind, and the recurrence."""
