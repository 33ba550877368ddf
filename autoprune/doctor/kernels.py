"""Attention kernels: which of those that can be pruned a model runs here, and running it with another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

from autoprune.runtime.decoder import find_decoder
from autoprune.runtime.refusals import SUPPORTED_ATTENTION


@contextmanager
def kernel(model: Any, name: str) -> Iterator[None]:
    """Run a model with this attention implementation; afterwards every part has its own again."""
    config = model.config
    parts = {part: getattr(config, part, None) for part in config.sub_configs}
    before = {part: own._attn_implementation for part, own in parts.items() if own is not None}
    own = {"": config._attn_implementation, **before}
    try:
        _set(model, name)
        yield
    finally:
        _set(model, own)


def _set(model: Any, name: str | dict[str, str]) -> None:
    """Without the warnings about parts that have no attention of their own."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
    finally:
        logging.set_verbosity(level)


def current_kernel(model: Any) -> str:
    """The attention implementation of the decoder."""
    decoder: Any = find_decoder(model)
    name: str = decoder.config._attn_implementation
    return name


def available_kernels(model: Any) -> list[str]:
    """The implementations that pruning supports and that this model accepts."""
    return [name for name in SUPPORTED_ATTENTION if _accepts(model, name)]


def _accepts(model: Any, name: str) -> bool:
    try:
        with kernel(model, name):
            return current_kernel(model) == name
    except (ValueError, ImportError):
        return False
