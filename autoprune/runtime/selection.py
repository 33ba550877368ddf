"""From scores to survivors."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.errors import PatchError
from autoprune.schedule import Keep


def survivors(scores: Tensor, candidates: Tensor, keep: Keep, n_visual: list[int]) -> Tensor:
    """Which candidates are kept: the best of each sample, ties to the earlier token.

    Args:
        scores: FloatTensor[B, S], higher = kept first.
        candidates: BoolTensor[B, S], the visual tokens alive.
        keep: The rule.
        n_visual: Visual tokens of each sample before any stage.

    Returns:
        BoolTensor[B, S], a subset of `candidates`.

    Raises:
        PatchError: non-finite scores, or `mass` of a sample whose scores are all zero.
    """
    if not bool(torch.isfinite(scores[candidates]).all()):
        raise PatchError("a criterion gave non-finite scores", remedy="check the model's weights and precision")
    ranked = scores.masked_fill(~candidates, float("-inf"))
    order = ranked.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return candidates & (rank < _targets(ranked, order, candidates, keep, n_visual)[:, None])


def _targets(ranked: Tensor, order: Tensor, candidates: Tensor, keep: Keep, n_visual: list[int]) -> Tensor:
    """LongTensor[B]: how many candidates of each sample are kept."""
    alive = candidates.sum(1)
    if keep.kind in ("ratio", "count"):
        counts = [keep.target(n, a) for n, a in zip(n_visual, alive.tolist(), strict=True)]
        return torch.tensor(counts, device=ranked.device)
    if keep.threshold is not None:
        return torch.minimum((ranked >= keep.threshold).sum(1).clamp(min=1), alive)
    assert keep.mass is not None
    best_first = ranked.gather(1, order).double().clamp(min=0)
    total = best_first.sum(1)
    if bool(((total <= 0) & (alive > 0)).any()):
        raise PatchError(
            "all scores of a sample are zero, so that no token holds a share of them",
            field="keep.mass",
            value=keep.mass,
            remedy="use keep.ratio, or other attention rows",
        )
    short = (best_first.cumsum(1) < keep.mass * total[:, None]).sum(1) + 1
    return torch.minimum(short, alive)
