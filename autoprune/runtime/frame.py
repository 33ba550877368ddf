"""The shortened view of a sequence in which a pruned layer runs."""

from __future__ import annotations

import torch
from torch import Tensor


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
