"""Prototypes from measures: thresholds from the null, then clusters that recur in unrelated images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune.analysis.codebook.clustering import density_peaks
from autoprune.analysis.codebook.measures import TokenMeasures
from autoprune.errors import DataError
from autoprune.evaluate.statistics import wilson

QUANTILE = 0.95


@dataclass(frozen=True)
class Prototypes:
    """Tokens that the rule takes as prototypes.

    Attributes:
        tokens: LongTensor[P], which of the probed tokens, all images after one another.
        redundant: How many of them are redundant where they stand.
        clusters: How many there are, and how many of them are context-independent.
    """

    tokens: Tensor
    redundant: int
    clusters: tuple[int, int]


def thresholds(measured: Sequence[TokenMeasures], quantile: float) -> dict[str, float]:
    """{measure: largest value of a redundant token}: the bound that meaningless tokens stay below.

    The quantile of the null, pooled over images; for a divergence not below the model's own noise. The paper sets its
    thresholds by hand for each model.
    """
    noise = max(m.noise for m in measured)
    found = {}
    for name in measured[0].null:
        null = float(torch.cat([m.null[name] for m in measured]).double().quantile(quantile))
        found[name] = null if name == "confidence" else max(null, noise)
    return found


def redundant(measured: Sequence[TokenMeasures], bounds: dict[str, float]) -> Tensor:
    """BoolTensor[n]: tokens of which no measure exceeds its threshold.

    Raises:
        DataError: none is, or all are: then nothing tells tokens apart.
    """
    flags = torch.stack([torch.cat([m.values[name] for m in measured]) <= bound for name, bound in bounds.items()])
    found = flags.all(0)
    if not bool(found.any()):
        shares = ", ".join(
            f"{name} {share:.0%}" for name, share in zip(bounds, flags.float().mean(1).tolist(), strict=True)
        )
        raise DataError(
            f"no visual token is redundant by all measures (below its threshold: {shares})",
            field="data",
            remedy="give more images, or a larger --quantile",
        )
    if bool(found.all()):
        raise DataError(
            "all visual tokens are redundant: the answers do not need the image",
            field="data",
            remedy="give questions that cannot be answered without it, or a smaller --quantile",
        )
    return found


def prototypes(
    features: Tensor, flags: Tensor, groups: Sequence[Hashable], count: int | None, limit: int
) -> Prototypes:
    """Tokens that are redundant in any image.

    All probed tokens are clustered together. A cluster is context-independent if its redundant tokens come from at
    least two groups and surely are most of it: the lower end of the 95 % interval of their share is above one half.
    Prototypes are the redundant tokens of such clusters, the densest first, as many from one cluster as from another.
    The released code clusters redundant tokens only, first within each image, with sizes and counts set for each model,
    and takes all members.

    Args:
        features: [n, d], probed tokens of all images.
        flags: BoolTensor[n], which are redundant.
        groups: n, the image of each token, or the group of its row.
        count: Clusters; None = the square root of n.
        limit: Most prototypes.

    Raises:
        DataError: no cluster is context-independent.
    """
    count = min(count or round(len(features) ** 0.5), len(features))
    found = density_peaks(features, count)
    labels, marked = found.labels.cpu().numpy(), flags.cpu().numpy()
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    origin = np.array([numbers[group] for group in groups])
    accepted = []
    for label in range(count):
        members = labels == label
        chosen = members & marked
        low, _ = wilson(int(chosen.sum()), int(members.sum()))
        if low > 0.5 and len(np.unique(origin[chosen])) > 1:
            accepted.append(np.flatnonzero(chosen))
    if not accepted:
        raise DataError(
            f"no kind of visual token is redundant in other images too ({int(marked.sum())} of {len(marked)} are)",
            field="data",
            remedy="give more images, or more --probes of each",
        )
    density = found.density.cpu().numpy()
    ranked = [members[np.argsort(-density[members], kind="stable")] for members in accepted]
    turns = sorted((turn, label, int(i)) for label, members in enumerate(ranked) for turn, i in enumerate(members))
    tokens = sorted(i for _, _, i in turns[:limit])
    return Prototypes(torch.tensor(tokens), int(marked.sum()), (count, len(accepted)))
