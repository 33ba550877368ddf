"""Survivors of a stage: chosen by score, gathered into a shorter sequence, written back, or merged into each other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from autoprune.runtime.exact import cosine
from autoprune.schedule import Keep


def take(tensor: Tensor, index: Tensor, dim: int) -> Tensor:
    """Gather `index` [B, n] along `dim` of a tensor [..., B or 1, S, ...] whose batch axis is the one before `dim`."""
    batch, n = index.shape
    index = index.to(tensor.device)
    if tensor.shape[dim - 1] == 1 and batch == 1:
        return tensor.index_select(dim, index[0])
    lead, tail = tensor.shape[: dim - 1], tensor.shape[dim + 1 :]
    if tensor.shape[dim - 1] != batch:
        tensor = tensor.expand(*lead, batch, *tensor.shape[dim:])
    if dim == 1:
        # Rows are contiguous here: copying them one by one is far faster than an element-wise gather.
        length = tensor.shape[1]
        flat = (index + torch.arange(batch, device=index.device)[:, None] * length).reshape(-1)
        return tensor.reshape(batch * length, *tail).index_select(0, flat).view(batch, n, *tail)
    shape = [1] * (dim - 1) + [batch, n] + [1] * len(tail)
    return tensor.gather(dim, index.view(shape).expand(*lead, batch, n, *tail))


def places(mask: Tensor, most: int) -> Tensor:
    """LongTensor[B, most]: where a mask [B, S] is true, ascending; where a row has fewer, positions that are not."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]


class Survivors:
    """The tokens of a [B, S] batch that are present in a pruned layer, and the way there and back.

    Samples with fewer survivors than the longest one are filled up with their own dropped tokens, which are masked:
    positions stay distinct, so that writing back is safe. Fillers come first, as left padding does: a recurrent layer
    has an empty state until the first survivor, and the last prompt token stays last.

    Args:
        alive: BoolTensor[B, S], the survivors.
        counts: How many each sample has; known on the host, so that no layer waits for the device.

    Attributes:
        index: LongTensor[B, n], positions in the full sequence: fillers, then survivors, each ascending.
        valid: BoolTensor[B, n], False at fillers.
        all_valid: Whether there is no filler.
    """

    def __init__(self, alive: Tensor, counts: Sequence[int]) -> None:
        picked = places(alive, max(counts))
        fillers_first = alive.gather(1, picked).to(torch.uint8).argsort(dim=1, stable=True)
        self.index = picked.gather(1, fillers_first)
        self.valid = alive.gather(1, self.index)
        self.alive = alive
        self.all_valid = min(counts) == max(counts)
        self._flat: dict[torch.device, Tensor] = {}
        # Keyed by identity; the tensor is kept beside its result, so that its id cannot be given to another one.
        self._taken: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def again(self) -> Self:
        """The same survivors for another pass, which is handed tensors of its own."""
        other = copy.copy(self)
        other._taken = {}
        return other

    def take(self, tensor: Tensor, dim: int) -> Tensor:
        """`take` along the sequence axis, remembered, since every layer is handed the same tensors."""
        key = (id(tensor), dim)
        if key not in self._taken:
            self._taken[key] = (tensor, take(tensor, self.index, dim))
        return self._taken[key][1]

    def rows_of(self, full: Tensor) -> Tensor:
        """`take` from hidden states [B, S, d]; not remembered, since they differ from layer to layer."""
        batch, length, width = full.shape
        flat = full.reshape(batch * length, width).index_select(0, self._rows(full))
        return flat.view(batch, -1, width)

    def put(self, compact: Tensor, full: Tensor) -> Tensor:
        """A copy of `full` [B, S, d] with the survivors replaced by their rows in `compact` [B, n, d]."""
        batch, length, width = full.shape
        compact = compact.to(full.device, full.dtype)
        if not self.all_valid:  # a filler is a dropped token, which keeps its last state
            compact = torch.where(self.valid.to(full.device)[:, :, None], compact, self.rows_of(full))
        rows = compact.reshape(-1, width)
        flat = full.reshape(batch * length, width).index_copy(0, self._rows(full), rows)
        return flat.view(batch, length, width)

    def _rows(self, full: Tensor) -> Tensor:
        """LongTensor[B·n]: the rows of the survivors among all rows [B·S] of a tensor, worked out once per device."""
        if full.device not in self._flat:
            starts = torch.arange(len(self.index), device=self.index.device)[:, None] * self.alive.shape[1]
            self._flat[full.device] = (self.index + starts).reshape(-1).to(full.device)
        return self._flat[full.device]


def choose(scores: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
    """Which candidates are kept: the best of each sample, ties to the earlier token.

    Args:
        scores: FloatTensor[B, S], higher = kept first.
        candidates: BoolTensor[B, S], the visual tokens alive.
        targets: LongTensor[B], how many are kept.

    Returns:
        BoolTensor[B, S], a subset of `candidates`.
    """
    order = scores.masked_fill(~candidates, float("-inf")).argsort(dim=1, descending=True, stable=True)
    by_rank = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, by_rank)
    return candidates & (rank < targets[:, None])


def adaptive_targets(scores: Tensor, candidates: Tensor, keep: Keep) -> tuple[Tensor, Tensor]:
    """Numbers of candidates kept by a rule that depends on the scores: `threshold` or `mass`.

    Args:
        scores: FloatTensor[B, S].
        candidates: BoolTensor[B, S].
        keep: The rule.

    Returns:
        LongTensor[B], the counts; and whether a sample has no score that could be shared out, BoolTensor[].
    """
    alive, ranked = candidates.sum(1), scores.masked_fill(~candidates, float("-inf"))
    if keep.threshold is not None:
        never = torch.zeros((), dtype=torch.bool, device=alive.device)
        return torch.minimum((ranked >= keep.threshold).sum(1).clamp(min=1), alive), never
    assert keep.mass is not None
    best_first = ranked.sort(dim=1, descending=True, stable=True).values.double().clamp(min=0)
    total = best_first.sum(1)
    short = (best_first.cumsum(1) < keep.mass * total[:, None]).sum(1) + 1
    return torch.minimum(short, alive), ((total <= 0) & (alive > 0)).any()


def merged(hidden: Tensor, kept: Tensor, dropped: Tensor, most_kept: int, most_dropped: int) -> Tensor:
    """Hidden states in which each kept token is the mean of itself and the dropped tokens most similar to it.

    After VisionZip (CVPR 2025, section 3.2). There contextual tokens are new ones, and a target is added to the mean of
    the others; here they stay a subset of the visual tokens, at their own positions, and everything weighs the same.

    Args:
        hidden: [B, S, d], entering the stage's layer.
        kept: BoolTensor[B, S], visual tokens that stay.
        dropped: BoolTensor[B, S], visual tokens that this stage drops.
        most_kept: The largest number of kept tokens of a sample.
        most_dropped: The largest number of dropped ones.

    Returns:
        [B, S, d], new at `kept`; similarity is the cosine, ties go to the earlier token.
    """
    kept, dropped = kept.to(hidden.device), dropped.to(hidden.device)
    stay, leave = places(kept, most_kept), places(dropped, most_dropped)
    real, gone = kept.gather(1, stay), dropped.gather(1, leave)
    before, lost = take(hidden, stay, 1), take(hidden, leave, 1).float()
    likeness = cosine(lost, before).masked_fill(~real[:, None], float("-inf"))
    batch, n, width = before.shape
    rows = torch.arange(batch, device=hidden.device)[:, None] * n
    into = (likeness.argmax(2) + rows).reshape(-1)  # row by row, in order: sums are the same in every batch
    total = (
        before.float().reshape(-1, width).index_add(0, into, lost.masked_fill(~gone[..., None], 0.0).reshape(-1, width))
    )
    members = torch.ones(batch * n, device=hidden.device).index_add(0, into, gone.reshape(-1).float())
    mean = (total / members[:, None]).view(batch, n, width).to(hidden.dtype)
    new = torch.where(real[..., None], mean, before)
    return hidden.scatter(1, stay[..., None].expand(-1, -1, width), new)
