"""Running a model with attention edges cut in some layers.

Layers before the first cut one are not run again: their dense outputs are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from autoprune.analysis.flow.edges import cut_edges, random_edges, visible_edges, without_edges
from autoprune.errors import DataError
from autoprune.evaluate.prefix import DensePrefix
from autoprune.runtime.call import without_first
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.replay import hooked


class Scissors:
    """Cuts the flow of one batch.

    Args:
        model: The model.
        prefix: Its dense pass over the batch.
        seeds: One for each row, for its random edges.
        ids: Names of the rows, for errors.

    Attributes:
        depth: Decoder layers.
    """

    def __init__(self, model: nn.Module, prefix: DensePrefix, seeds: Sequence[int], ids: Sequence[str]) -> None:
        decoder = find_decoder(model)
        layers = decoder_layers(decoder)
        self.depth = len(layers)
        self._layers = [(layer, attention_of(decoder, layer) is not None) for layer in layers]
        self._prefix = prefix
        self._valid = prefix.forced.inputs["attention_mask"].bool()
        self._visual = prefix.visual_mask
        self._seeds, self._ids = seeds, ids

    def cut(self, cut: str, first: int, end: int | None = None, control: bool = False) -> Tensor | None:
        """Logits [B, width, vocabulary] without some edges in the layers `first` to `end` - 1 (None: to the last).

        Args:
            cut: Which edges, one of `edges.CUTS`.
            first: First layer that loses them.
            end: Behind the last one.
            control: As many random edges instead.

        Returns:
            None where none of these layers has attention.

        Raises:
            DataError: a row has no such edge.
        """
        known: dict[int, tuple[Tensor | None, Tensor]] = {}  # layers share masks; each is cut once

        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if len(args) > 1:
                args, kwargs = args[:1], without_first(layer.forward, args, kwargs)
            mask = kwargs.get("attention_mask")
            if id(mask) not in known:
                known[id(mask)] = mask, without_edges(mask, self._edges(mask, cut, control))
            return args, {**kwargs, "attention_mask": known[id(mask)][1]}

        chosen = [layer for layer, attends in self._layers[first:end] if attends]
        if not chosen:
            return None
        with ExitStack() as stack:
            for layer in chosen:
                stack.enter_context(hooked(layer, before=before))
            return self._prefix.rerun(first)

    def _edges(self, mask: Tensor | None, cut: str, control: bool) -> Tensor:
        visible = visible_edges(mask, self._valid)
        edges = cut_edges(cut, visible, self._visual)
        empty = ~edges.flatten(1).any(1)
        if bool(empty.any()):
            reader = "text token" if cut == "visual_to_text" else "other visual token"
            raise DataError(
                f"row {self._ids[int(empty.nonzero()[0])]}: no {reader} sees a visual token, there is no flow to cut",
                field="data",
                remedy="give rows whose image comes before the question and has several tokens",
            )
        return random_edges(edges, visible, self._seeds) if control else edges
