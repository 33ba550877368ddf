"""Edge ablation: a model run with attention edges between image and text cut in some layers.

An edge is one query reading one key. Layers before the first cut one are not run again: their dense outputs are
recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import DataError
from autoprune.evaluate.prefix import DensePrefix
from autoprune.runtime.call import without_first
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.replay import hooked

CUTS = ("visual_to_text", "visual_to_visual")
"""The edges that are cut: text tokens reading visual ones, or visual tokens reading each other."""


class EdgeAblation:
    """Logits of one batch without some attention edges.

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

    def logits(self, cut: str, first: int, end: int | None = None, control: bool = False) -> Tensor | None:
        """Logits [B, width, vocabulary] without some edges in the layers `first` to `end` - 1 (None: to the last).

        Args:
            cut: Which edges, one of `edge_ablation.CUTS`.
            first: First layer that loses them.
            end: One past the last.
            control: As many random edges instead.

        Returns:
            None where none of these layers has attention.

        Raises:
            DataError: a row has no such edge.
        """
        known: dict[int, tuple[Tensor | None, Tensor]] = {}  # by id: masks are shared between layers

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


def visible_edges(mask: Tensor | None, valid: Tensor) -> Tensor:
    """BoolTensor[B, n, n]: which query may read which other key, padding left out.

    Args:
        mask: What the model masks: None (causal), or bool / additive [B or 1, 1 or H, n, n].
        valid: BoolTensor[B, n], False at padding.

    A token's attention to itself is no edge: it moves nothing, and no row may be left with nothing to read.
    """
    n = valid.shape[1]
    if mask is None:
        seen = torch.ones(n, n, dtype=torch.bool, device=valid.device).tril()[None]
    else:
        seen = mask[..., :n] if mask.dtype == torch.bool else mask[..., :n] > torch.finfo(mask.dtype).min / 2
        seen = seen.any(1)
    others = ~torch.eye(n, dtype=torch.bool, device=valid.device)
    return seen & others & valid[:, :, None] & valid[:, None, :]


def cut_edges(cut: str, visible: Tensor, visual: Tensor) -> Tensor:
    """BoolTensor[B, n, n]: the visible edges that a cut takes away."""
    readers = ~visual if cut == "visual_to_text" else visual
    return visible & readers[:, :, None] & visual[:, None, :]


def random_edges(cut: Tensor, visible: Tensor, seeds: Sequence[int]) -> Tensor:
    """BoolTensor[B, n, n]: as many visible edges of each sample as a cut has, drawn from all of them.

    Args:
        cut: What the control is for.
        visible: Where it may draw.
        seeds: One for each sample; the draw does not depend on the batch that a sample is in.
    """
    drawn = torch.zeros_like(cut)
    for b, seed in enumerate(seeds):
        places = visible[b].nonzero()
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed)).to(places.device)
        rows, columns = places[order[: int(cut[b].sum())]].T
        drawn[b, rows, columns] = True
    return drawn


def without_edges(mask: Tensor | None, edges: Tensor) -> Tensor:
    """The model's mask of a layer, without some edges.

    Args:
        mask: As of `visible_edges`.
        edges: BoolTensor[B, n, n].

    Returns:
        A mask [B, 1 or H, n, n] of the kind that the model gave; bool in place of None.
    """
    if mask is None:
        return edges.logical_not().tril()[:, None]
    return mask.masked_fill(edges[:, None], False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min)
