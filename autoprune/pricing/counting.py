"""FLOPs of vision tower and projector, counted while the model runs them: exact for every family, without a formula.

A tower's work depends on the pixels: on tiles, windows, the grid of patches. So it is counted on real inputs, by
PyTorch's own operation counter, and nothing behind it is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch.utils.module_tracker import ModuleTracker

from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.replay import hooked

_ALL, _ROTARY = "Global", "rotary"
_COUNTED = ("eager", "sdpa")  # kernels of other packages are no operations that the counter knows


class _AtDecoder(Exception):  # noqa: N818 - a signal, not an error
    """Leaves the model before its first decoder layer."""


def vision_flops(model: nn.Module, inputs: Mapping[str, Any]) -> int:
    """FLOPs, 2 per multiply-add, of all that a model computes before its first decoder layer; 0 for a text-only prompt.

    As `cost` counts: matrix products, convolutions and attention; rotary embeddings are left out.

    Args:
        model: The model, not patched. It runs up to its first decoder layer, once.
        inputs: Of a prompt, or of a batch.

    Raises:
        ModelError: the model has no decoder that is known.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}
    )
    counter.mod_tracker = _Tracker(model)  # torch's own follows gradients too, and fails on modules that take a weight

    first = decoder_layers(find_decoder(model))[0]

    def stop(*_: Any) -> None:
        raise _AtDecoder

    with _countable(model), hooked(first, before=stop), torch.no_grad(), counter, suppress(_AtDecoder):
        model(**inputs)
    counts = counter.get_flop_counts()
    return int(sum(counts.get(_ALL, {}).values()) - sum(counts.get(_ROTARY, {}).values()))


class _Tracker(ModuleTracker):
    """Which heads an operation is counted under: all, and rotary embeddings while one of those modules runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parents = {_ALL}
        self._rotary = [m for name, m in model.named_modules() if "rotary" in name.rpartition(".")[2]]
        self._stack = ExitStack()

    def __enter__(self) -> None:
        for module in self._rotary:
            self._stack.enter_context(
                hooked(
                    module, before=lambda *_: self.parents.add(_ROTARY), after=lambda *_: self.parents.discard(_ROTARY)
                )
            )

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextmanager
def _countable(model: nn.Module) -> Iterator[None]:
    """Attention runs in kernels that the counter knows; the configs are as before at the end."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    before = [(config, getattr(config, "_attn_implementation", None)) for config in configs.values()]
    try:
        for config, name in before:
            if name is not None and name not in _COUNTED:
                config._attn_implementation = "sdpa"
        yield
    finally:
        for config, name in before:
            if name is not None and config._attn_implementation != name:
                config._attn_implementation = name


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """The fused kernel on CPUs, which the counter takes for nothing; arguments are shapes."""
    return int(sdpa_flop_count(query, key, value))
