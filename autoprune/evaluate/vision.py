"""The vision tower runs once per batch, however often the model is called on it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_METHODS = ("get_image_features", "get_video_features")


@contextmanager
def shared_features(model: nn.Module) -> Iterator[None]:
    """Within the block, image features are computed once for the same input tensors and handed out again after that.

    Models call ``get_image_features`` on themselves; it is shadowed by an instance attribute and restored at the end.
    """
    shadowed: list[tuple[nn.Module, str]] = []
    for module in model.modules():
        for name in _METHODS:
            if hasattr(module, name) and name not in module.__dict__:
                module.__dict__[name] = _remembering(getattr(module, name))
                shadowed.append((module, name))
    try:
        yield
    finally:
        for module, name in shadowed:
            del module.__dict__[name]


def _remembering(method: Callable[..., Any]) -> Callable[..., Any]:
    # The inputs are kept beside the result, so that their ids cannot be given to other tensors.
    known: dict[tuple[int, ...], tuple[list[Tensor], Any]] = {}

    @functools.wraps(method)  # generate() reads the signature
    def features(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        key = tuple(id(tensor) for tensor in tensors)
        if key not in known:
            known[key] = (tensors, method(*args, **kwargs))
        return known[key][1]

    return features
