"""Models built from a config with random weights that are cheap to draw: any shape, without a download."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from autoprune.errors import ModelError
from autoprune.models.config import cut_depth, needs_trust, read_config
from autoprune.models.loading import check_kernel, device_of, dtype_on
from autoprune.models.options import DEFAULTS, ModelOptions

_BLOCK = 1_000_003
"""Numbers drawn of each kind: a prime, so that the rows of a weight of any width are not copies of each other."""


def random_model(
    path_or_config: str | Path | Any,
    *,
    layers: int | None = None,
    options: ModelOptions = DEFAULTS,
) -> Any:
    """A model built from a config, in eval mode, without gradients; the same weights every time.

    Args:
        path_or_config: A folder with a config.json, that file, a name on the hub, or a config (it is not changed).
        layers: Build only the first decoder layers, so that the layer shape of a large model fits a small machine.
        options: How it is built; a config without a dtype is built in bfloat16 on a GPU.

    Raises:
        ModelError: there is no such config, no model class for it, it has fewer layers, or an option is of weights,
            which there are none of.
    """
    _check_buildable(options)
    place = device_of(options.device)
    named = dtype_on(place, options.dtype)
    named_config = isinstance(path_or_config, str | Path)
    config = read_config(path_or_config, options=options) if named_config else copy.deepcopy(path_or_config)
    cut_depth(config, layers)
    kind: Any = AutoModelForImageTextToText
    if type(config) not in kind._model_mapping:
        kind = AutoModelForCausalLM
    numbers = getattr(config, "dtype", None) or torch.bfloat16 if named == "auto" else getattr(torch, named)
    kernel = {"attn_implementation": options.attn_implementation} if options.attn_implementation else {}
    try:
        with place, _CheapNoise():
            model = kind.from_config(config, dtype=numbers, trust_remote_code=options.trust_remote_code, **kernel)
    except (ValueError, KeyError, ImportError, RuntimeError, AssertionError) as error:
        kind_of_model = getattr(config, "model_type", type(config).__name__)
        raise needs_trust(error, kind_of_model) or ModelError(
            f"cannot be built: {' '.join(str(error).split())[:300]}",
            field="model.path",
            value=kind_of_model,
            remedy="give the config of an image-text-to-text or causal language model of transformers",
        ) from error
    return model.eval().requires_grad_(False)


def _check_buildable(options: ModelOptions) -> None:
    given = {"device_map": options.device_map, "generation": options.generation}
    if named := [name for name, value in given.items() if value]:
        raise ModelError(
            "is of a model that is loaded, and this one is built from its config",
            field=f"model.{named[0]}",
            value=given[named[0]],
            remedy="leave it out with random weights",
        )
    check_kernel(options.attn_implementation)


class _CheapNoise(TorchDispatchMode):
    """Dispatch mode in which random tensors are filled with copies of one block of noise.

    Drawing 7B numbers would take a minute. The mode works below the models' own initialisation, which so keeps its
    scales, its ones and its zeros.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # inherited, so the exclusion of torch misses it
        generator = torch.Generator().manual_seed(0)
        self._normal = torch.randn(_BLOCK, generator=generator)
        self._uniform = torch.rand(_BLOCK, generator=generator)
        self._filled = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.normal_.default:
            mean, std = _scale(args)
            return self._fill(args[0], self._normal * std + mean)
        if func is torch.ops.aten.uniform_.default:
            low, high = _scale(args)
            return self._fill(args[0], self._uniform * (high - low) + low)
        return func(*args, **(kwargs or {}))

    def _fill(self, tensor: Tensor, block: Tensor) -> Tensor:
        self._filled += 1
        # Rolled, so that no two weights are the same numbers.
        block = block.roll(-7919 * self._filled).to(tensor.device, tensor.dtype)
        flat = tensor.view(-1)
        whole = flat.numel() // _BLOCK * _BLOCK
        flat[:whole].view(-1, _BLOCK).copy_(block.expand(whole // _BLOCK, -1))
        flat[whole:].copy_(block[: flat.numel() - whole])
        return tensor


def _scale(args: tuple[Any, ...]) -> tuple[float, float]:
    """Mean and spread, or low and high; the dispatcher leaves trailing defaults out."""
    return args[1] if len(args) > 1 else 0.0, args[2] if len(args) > 2 else 1.0
