"""Seeing the query and key of one attention module without changing what it computes.

transformers looks its attention function up by name at every call. While a module is observed, that name leads to a
wrapper that hands query, key, mask and the shape of the softmax to a callback and then calls the untouched kernel. The
NAME must stay the same: mask creation and kernel choice depend on it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autoprune.errors import PatchError


class Softmax(NamedTuple):
    """Parameters by which an attention kernel turns products of query and key into weights.

    Attributes:
        scaling: Factor on the logits; None = d ** -0.5.
        softcap: Logits are squashed to ±softcap by tanh before they are masked (Gemma 2); None = not at all.
        sinks: FloatTensor[H], a logit per head that takes weight away from all keys (gpt-oss); None = no sink.
        causal: Whether a row without a mask sees only itself and what is before it.
    """

    scaling: float | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    causal: bool = True


class SeenAttention(NamedTuple):
    """Inputs of one call of an attention kernel, detached.

    Attributes:
        query: [B, H, n, d], after rotary embedding.
        key: [B, H_kv, N, d]; the last n keys belong to the n queries.
        mask: As the kernel gets it.
        softmax: How products become weights.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    softmax: Softmax

    def without_free(self, before: int) -> SeenAttention:
        """The same without the free entries that a static cache has behind the new keys.

        Args:
            before: Entries that were cached before this call.
        """
        n = self.query.shape[2]
        return self._replace(key=self.key[:, :, : min(self.key.shape[2] - n, before) + n])


class AttentionCall(NamedTuple):
    """One call of an attention kernel, with the gradients that its tensors carry.

    Attributes:
        query: [B, H, n, d].
        key: [B, H_kv, N, d].
        value: [B, H_kv, N, d_v].
        mask: As the kernel gets it.
        softmax: How products become weights.
        output: [B, n, H, d_v].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    softmax: Softmax
    output: Tensor


Observer = Callable[[SeenAttention], None]


class _Listener(NamedTuple):
    before: Observer | None = None
    after: Callable[[AttentionCall], None] | None = None


_LOCK = threading.Lock()
_LISTENERS: dict[tuple[int, int], _Listener] = {}
"""By thread and module: two threads may run one model."""
_INSTALLED: dict[tuple[int, str], tuple[int, Any]] = {}
_REFUSED = ("position_bias", "indices")


def tapped(attention: nn.Module, observer: Observer) -> AbstractContextManager[None]:
    """Call `observer` before each call of `attention`.

    Wrappers are shared and counted, so that threads may observe at once.
    """
    return _listening(attention, _Listener(before=observer))


def watched(attention: nn.Module, observer: Callable[[AttentionCall], None]) -> AbstractContextManager[None]:
    """Call `observer` after each call of `attention`, with its output too; otherwise as `tapped`."""
    return _listening(attention, _Listener(after=observer))


def attention_ahead(
    attention: nn.Module, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> SeenAttention | None:
    """Inputs that a layer's attention would get if the layer were called; the call is left as soon as they are known.

    The forward of the layer is called, not the layer: its hooks belong to the pass proper.

    Returns:
        None where the attention does not pass through transformers' interface.
    """

    def leave(seen: SeenAttention) -> None:
        raise _Left(seen)

    with torch.no_grad(), tapped(attention, leave):
        try:
            layer.forward(*args, **kwargs)
        except _Left as signal:
            return signal.seen
    return None


class _Left(Exception):  # noqa: N818 - a signal, not an error
    """Ends the call of a layer once its query and key were seen."""

    def __init__(self, seen: SeenAttention) -> None:
        self.seen = seen


@contextmanager
def _listening(attention: nn.Module, listener: _Listener) -> Iterator[None]:
    module = sys.modules[type(attention).__module__]
    interface = getattr(module, "ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)
    observed: Any = attention
    name: str = observed.config._attn_implementation
    key = (threading.get_ident(), id(attention))
    with _LOCK:
        home = _home(interface, name)
        _LISTENERS[key] = listener
        _install(home, name)
    try:
        yield
    finally:
        with _LOCK:
            del _LISTENERS[key]
            _uninstall(home, name)


def _install(home: dict[str, Any], name: str) -> None:
    if (id(home), name) not in _INSTALLED:
        _INSTALLED[id(home), name] = (0, home.get(name))
        home[name] = _wrapper(home.get(name))
    count, kernel = _INSTALLED[id(home), name]
    _INSTALLED[id(home), name] = (count + 1, kernel)


def _uninstall(home: dict[str, Any], name: str) -> None:
    count, kernel = _INSTALLED.pop((id(home), name))
    if count > 1:
        _INSTALLED[id(home), name] = (count - 1, kernel)
    elif kernel is None:
        del home[name]
    else:
        home[name] = kernel


def _home(interface: Any, name: str) -> dict[str, Any]:
    """The mapping in which the name is found.

    Its value is exchanged where it stands, for all interfaces that share it: another thread that looks the name up in
    two steps must never find it gone, because it would then run a kernel that takes no mask for causal.
    """
    mapping: dict[str, Any] = interface._local_mapping
    shared: dict[str, Any] = interface._global_mapping
    return shared if name in shared and name not in mapping else mapping


def _wrapper(kernel: Callable[..., Any] | None) -> Callable[..., Any]:
    def attention_function(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *a: Any, **k: Any
    ) -> Any:
        # The name "eager" has no entry of its own: each modelling file brings its function.
        run = kernel or sys.modules[type(module).__module__].eager_attention_forward
        listener = _LISTENERS.get((threading.get_ident(), id(module)))
        if listener is None:
            return run(module, query, key, value, attention_mask, *a, **k)
        refused = [n for n in _REFUSED if k.get(n) is not None]
        if refused:
            raise PatchError(
                f"attention with {', '.join(refused)} cannot be scored",
                field="criterion",
                value=type(module).__name__,
                remedy="use a criterion without attention, such as diversity, or withdraw",
            )
        softmax = Softmax(
            k.get("scaling"), k.get("softcap"), k.get("s_aux"), causal=getattr(module, "is_causal", True) is not False
        )
        if listener.before is not None:
            listener.before(SeenAttention(query.detach(), key.detach(), attention_mask, softmax))
        result = run(module, query, key, value, attention_mask, *a, **k)
        if listener.after is not None:
            listener.after(AttentionCall(query, key, value, attention_mask, softmax, result[0]))
        return result

    return attention_function
