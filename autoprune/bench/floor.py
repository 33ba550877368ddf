"""The least that a schedule can cost: the stock layers on as many tokens, nothing scored, gathered or written back.

The sequence is cut off at its end instead of being pruned, which is a view and no copy. What comes out means nothing;
what it takes is what any implementation of the schedule would still have to pay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from autoprune.runtime.decoder import decoder_layers
from autoprune.runtime.replay import hooked


@contextmanager
def shortened(decoder: nn.Module, tokens: Sequence[int]) -> Iterator[None]:
    """Run layer i of the text model on the first ``tokens[i]`` tokens of a prefill; decode steps run as they are."""
    with ExitStack() as stack:
        for i, (layer, n) in enumerate(zip(decoder_layers(decoder), tokens, strict=True)):
            stack.enter_context(hooked(layer, before=_Shortened(i, n)))
        yield


class _Shortened:
    """The arguments of one layer, cut down to its first tokens."""

    def __init__(self, index: int, tokens: int) -> None:
        self._index, self._tokens = index, tokens

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        n = min(self._tokens, hidden.shape[1])
        new = dict(kwargs)
        if args:
            args = (hidden[:, :n], *args[1:])
        else:
            new["hidden_states"] = hidden[:, :n]
        places = kwargs.get("position_embeddings")
        if isinstance(places, tuple):
            new["position_embeddings"] = tuple(t[..., :n, :] for t in places)
        if isinstance(kwargs.get("position_ids"), Tensor):
            new["position_ids"] = kwargs["position_ids"][..., :n]
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 4:
            new["attention_mask"] = mask[..., :n, : n + self._held(kwargs)]
        return args, new

    def _held(self, kwargs: dict[str, Any]) -> int:
        layers = getattr(kwargs.get("past_key_values"), "layers", ())
        keys = getattr(layers[self._index], "keys", None) if self._index < len(layers) else None
        return 0 if keys is None else int(keys.shape[-2])
