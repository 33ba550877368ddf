"""Noticing that a call of a module failed, whatever it failed with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def guard(module: nn.Module, failed: Callable[[], None]) -> Callable[[], None]:
    """Run `failed` whenever a call of `module` ends by an exception, Ctrl-C included; the result undoes this.

    torch runs forward hooks after an ``Exception`` only. The seam is the one that ``module.compile()`` uses, since
    ``forward`` belongs to accelerate, whose hooks may come and go while this one stays.
    """
    seam = "_compiled_call_impl"
    inner = module.__dict__.get(seam)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return (inner or module._call_impl)(*args, **kwargs)
        except BaseException:
            failed()
            raise

    def undo() -> None:
        if module.__dict__.get(seam) is not call:
            return  # compiled since
        del module.__dict__[seam]
        if inner is not None:
            module.__dict__[seam] = inner

    module.__dict__[seam] = call
    return undo
