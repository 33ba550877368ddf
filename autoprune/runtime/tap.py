"""Seeing the query and key of one attention module without changing what it computes.

transformers looks its attention function up by name at every call. While a module is observed, that name leads to a
wrapper that hands query, key, mask and the shape of the softmax to a callback and then calls the untouched kernel. The
NAME must stay the same: mask creation and kernel choice depend on it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autoprune.errors import PatchError
from autoprune.runtime.criteria import Softmax

Observer = Callable[[Tensor, Tensor, "Tensor | None", Softmax], None]
_LOCK = threading.Lock()
_OBSERVERS: dict[tuple[int, int], Observer] = {}
"""By thread and module: two threads may run one model."""
_INSTALLED: dict[tuple[int, str], tuple[int, Any]] = {}
_REFUSED = ("position_bias", "indices")


@contextmanager
def tapped(attention: nn.Module, observer: Observer) -> Iterator[None]:
    """Call `observer(query [B, H, n, d], key [B, H_kv, N, d], mask, softmax)` at each call of `attention`.

    Wrappers are shared and counted, so that threads may observe at once.
    """
    module = sys.modules[type(attention).__module__]
    interface = getattr(module, "ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)
    name: str = attention.config._attn_implementation  # type: ignore[union-attr, assignment]
    key = (threading.get_ident(), id(attention))
    with _LOCK:
        _OBSERVERS[key] = observer
        _install(interface, name)
    try:
        yield
    finally:
        with _LOCK:
            del _OBSERVERS[key]
            _uninstall(interface, name)


def _install(interface: Any, name: str) -> None:
    count, local = _INSTALLED.get((id(interface), name), (0, interface._local_mapping.get(name)))
    if count == 0:
        interface[name] = _wrapper(interface.get(name))
    _INSTALLED[id(interface), name] = (count + 1, local)


def _uninstall(interface: Any, name: str) -> None:
    count, local = _INSTALLED.pop((id(interface), name))
    if count > 1:
        _INSTALLED[id(interface), name] = (count - 1, local)
    elif local is None:
        del interface[name]
    else:
        interface[name] = local


def _wrapper(kernel: Callable[..., Any] | None) -> Callable[..., Any]:
    def attention_function(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *a: Any, **k: Any
    ) -> Any:
        observer = _OBSERVERS.get((threading.get_ident(), id(module)))
        if observer is not None:
            refused = [n for n in _REFUSED if k.get(n) is not None]
            if refused:
                raise PatchError(
                    f"attention with {', '.join(refused)} cannot be scored",
                    field="criterion",
                    value=type(module).__name__,
                    remedy="use a criterion without attention, such as diversity, or withdraw",
                )
            softmax = Softmax(k.get("scaling"), k.get("softcap"), k.get("s_aux"))
            observer(query.detach(), key.detach(), attention_mask, softmax)
        # The name "eager" has no entry of its own: each modelling file brings its function.
        run = kernel or sys.modules[type(module).__module__].eager_attention_forward
        return run(module, query, key, value, attention_mask, *a, **k)

    return attention_function
