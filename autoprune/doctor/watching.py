"""Watching from outside what a model really does: rows, rotary embeddings and cache of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from autoprune.runtime.decoder import decoder_layers, find_decoder


@dataclass(frozen=True)
class Seen:
    """What one decoder layer was called with.

    Attributes:
        rows: Length of the sequence.
        rotary: The rotary embeddings, each [..., rows, d]; empty if the layer is handed none.
        places: Position ids, if the layer is handed them.
    """

    rows: int
    rotary: tuple[Tensor, ...]
    places: Tensor | None


@dataclass(frozen=True)
class Entries:
    """One cache layer: how many entries it holds, and how long it says the sequence is."""

    held: int
    logical: int


@dataclass
class Watch:
    """What happened in a `generate()` call.

    Attributes:
        prefill: By layer, what it got in the first pass.
        last: By layer, what it got in the last pass.
        hidden: [B, n, d], what the decoder gave in the first pass at the positions asked for.
        filled: The cache after the first pass.
    """

    prefill: dict[int, Seen] = field(default_factory=dict)
    last: dict[int, Seen] = field(default_factory=dict)
    hidden: Tensor | None = None
    filled: list[Entries | None] = field(default_factory=list)


@contextmanager
def watched(model: nn.Module, columns: list[int]) -> Iterator[Watch]:
    """Watch a `generate()` call; enter it inside a patch to see what the patch hands on.

    Args:
        model: The model.
        columns: Positions of the prompt at which the decoder's output is wanted, padding included.
    """
    watch, decoder = Watch(), find_decoder(model)

    def layer_hook(i: int) -> Any:
        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            watch.last[i] = _seen(args, kwargs)
            watch.prefill.setdefault(i, watch.last[i])

        return before

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if watch.hidden is None:
            watch.hidden = output[0][:, columns]
            watch.filled = read_entries(kwargs.get("past_key_values"))

    with ExitStack() as stack:
        for i, layer in enumerate(decoder_layers(decoder)):
            stack.callback(layer.register_forward_pre_hook(layer_hook(i), with_kwargs=True).remove)
        stack.callback(decoder.register_forward_hook(after, with_kwargs=True).remove)
        yield watch


def read_entries(cache: Any) -> list[Entries | None]:
    """The layers of a cache; None for one that keeps no keys, as recurrent ones do."""
    found: list[Entries | None] = []
    for layer in getattr(cache, "layers", ()):
        keys = getattr(layer, "keys", None)
        found.append(Entries(keys.shape[-2], int(layer.get_seq_length())) if isinstance(keys, Tensor) else None)
    return found


def _seen(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    given, places = kwargs.get("position_embeddings"), kwargs.get("position_ids")
    rotary = (given,) if isinstance(given, Tensor) else tuple(given or ())
    return Seen(hidden.shape[1], rotary, places if isinstance(places, Tensor) else None)
