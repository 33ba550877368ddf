"""Survivors of a stage: chosen by score, gathered into a shorter sequence, written back, or merged into each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from autoprune.errors import PatchError
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


class Frame:
    """Which positions of a [B, S] batch are present in a pruned layer.

    Samples with fewer survivors than the longest one are filled up with their own dropped tokens, which are masked:
    positions stay distinct, so that writing back is safe. Fillers come first, as left padding does: a recurrent layer
    has an empty state until the first survivor, and the last prompt token stays last.

    Attributes:
        index: LongTensor[B, n], positions in the full sequence: fillers, then survivors, each ascending.
        valid: BoolTensor[B, n], False at fillers.
        alive: BoolTensor[B, S], the survivors.
        all_valid: Whether there is no filler; known on the host, so that later layers need no sync.
    """

    def __init__(self, alive: Tensor) -> None:
        n = int(alive.sum(1).max())
        picked = (~alive).to(torch.uint8).argsort(dim=1, stable=True)[:, :n]
        fillers_first = alive.gather(1, picked).to(torch.uint8).argsort(dim=1, stable=True)
        self.index = picked.gather(1, fillers_first)
        self.valid = alive.gather(1, self.index)
        self.alive = alive
        self.all_valid = bool(self.valid.all())
        self._flat: dict[torch.device, Tensor] = {}
        # Keyed by identity; the tensor is kept beside its result, so that its id cannot be given to another one.
        self._taken: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

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
        """LongTensor[B·n]: the rows of this frame among all rows [B·S] of a tensor, worked out once per device."""
        if full.device not in self._flat:
            starts = torch.arange(len(self.index), device=self.index.device)[:, None] * self.alive.shape[1]
            self._flat[full.device] = (self.index + starts).reshape(-1).to(full.device)
        return self._flat[full.device]


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


def merged(hidden: Tensor, kept: Tensor, dropped: Tensor) -> Tensor:
    """Hidden states in which each kept token is the mean of itself and the dropped tokens most similar to it.

    After VisionZip (CVPR 2025, section 3.2). There contextual tokens are new ones, and a target is added to the mean of
    the others; here they stay a subset of the visual tokens, at their own positions, and everything weighs the same.

    Args:
        hidden: [B, S, d], entering the stage's layer.
        kept: BoolTensor[B, S], visual tokens that stay.
        dropped: BoolTensor[B, S], visual tokens that this stage drops.

    Returns:
        [B, S, d], new at `kept`; similarity is the cosine, ties go to the earlier token.
    """
    result = hidden.clone()
    for b in range(len(hidden)):
        stay, leave = kept[b].to(hidden.device), dropped[b].to(hidden.device)
        if not bool(stay.any()) or not bool(leave.any()):
            continue
        into, gone = hidden[b, stay].float(), hidden[b, leave].float()
        nearest = (normalize(gone, dim=1) @ normalize(into, dim=1).T).argmax(1)
        total = into.index_add(0, nearest, gone)
        members = torch.ones(len(into), device=into.device).index_add(0, nearest, torch.ones_like(gone[:, 0]))
        result[b, stay] = (total / members[:, None]).to(hidden.dtype)
    return result
