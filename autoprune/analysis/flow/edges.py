"""Attention edges between image and text, and how to cut them: an edge is one query reading one key."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CUTS = ("visual_to_text", "visual_to_visual")
"""What is cut: text no longer reads the image; visual tokens no longer read each other."""


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
