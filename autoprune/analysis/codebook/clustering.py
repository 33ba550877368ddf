"""Density-peak clustering with k nearest neighbours (DPC-KNN, Du et al. 2016), by cosine distance, deterministic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_NEIGHBOURS = 5
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Clusters:
    """Clusters of n points.

    Attributes:
        labels: LongTensor[n], 0 to C - 1.
        density: FloatTensor[n], higher where a point's nearest neighbours are nearer.
    """

    labels: Tensor
    density: Tensor


def density_peaks(points: Tensor, count: int) -> Clusters:
    """Clusters around the points that are denser than all near them; every other goes where its nearest denser one is.

    Ties go to the earlier point; the usual implementation breaks them by random noise.

    Args:
        points: [n, d].
        count: Clusters, 1 to n.
    """
    unit = torch.nn.functional.normalize(points.float(), dim=1)
    n, near = len(unit), min(_NEIGHBOURS, len(unit) - 1)
    density = torch.cat(
        [
            (-(rows.topk(near + 1, largest=False).values[:, 1:] ** 2).mean(1)).exp()
            if near
            else torch.ones_like(rows[:, 0])
            for _, rows in _distances(unit)
        ]
    )
    order = density.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n, device=order.device)
    gaps, parents = [], []
    for start, rows in _distances(unit):
        denser = rank[None] < rank[start : start + len(rows), None]
        nearest = rows.masked_fill(~denser, float("inf")).min(1)
        # The densest of all has no denser one: its gap is the largest there is.
        gaps.append(torch.where(nearest.values.isinf(), rows.amax(1), nearest.values))
        parents.append(nearest.indices)
    gap, parent = torch.cat(gaps), torch.cat(parents).tolist()
    peak = density * gap
    peak[order[0]] = float("inf")
    labels = [-1] * n
    for label, centre in enumerate(peak.argsort(descending=True, stable=True)[:count].tolist()):
        labels[centre] = label
    for i in order.tolist():
        if labels[i] < 0:
            labels[i] = labels[parent[i]]
    return Clusters(torch.tensor(labels, device=points.device), density)


def _distances(unit: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of the distances: their first row, and [rows, n]."""
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        yield start, (1 - unit[start : start + _ROWS_AT_ONCE] @ unit.T).clamp_min(0)
