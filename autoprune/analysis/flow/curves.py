"""Curves over layers with intervals, from figures of single samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from autoprune.analysis.flow.interventions import METRICS
from autoprune.analysis.flow.saliency import TEXT, VISUAL
from autoprune.evaluate.statistics import Array, Curve, curve, mean_curve, paired_drop

DIRECTIONS = {
    "visual_to_text": (TEXT, VISUAL),
    "text_to_visual": (VISUAL, TEXT),
    "visual_to_visual": (VISUAL, VISUAL),
    "text_to_text": (TEXT, TEXT),
}
"""HiMAP's S_vt, S_tv, S_vv and S_tt, as (kind that reads, kind that is read)."""
MEASURES: dict[str, Callable[[Array, Array], Array]] = {
    "share": lambda flows, tokens: flows / np.nansum(flows, axis=(1, 2, 3), keepdims=True),
    "summed": lambda flows, tokens: flows,
    "per-token": lambda flows, tokens: flows / tokens[:, None, None, :],
    "read": lambda flows, tokens: flows / tokens[:, None, :, None],
}
"""Measures of flow, from flows [n, L, reader, read] and tokens [n, kind].

``share`` of all saliency of the sample, so that every sample weighs the same; ``summed`` as HiMAP's code averages it,
where samples that the model is sure of hardly count; ``per-token`` = summed per token that is read from; ``read`` =
summed per token that reads, which is how the code compares modalities.
"""


def flow_curves(flows: Array, tokens: Array, groups: Sequence[Hashable]) -> dict[str, dict[str, Curve]]:
    """Curves by measure and direction.

    Args:
        flows: [n, L, 2, 2], of samples that have any saliency.
        tokens: [n, 2].
        groups: Cluster of each sample.
    """
    return {
        name: {
            direction: mean_curve(measure(flows, tokens)[:, :, reader, read], groups)
            for direction, (reader, read) in DIRECTIONS.items()
        }
        for name, measure in MEASURES.items()
    }


def cut_curves(dense: Array, cut: Array, control: Array, groups: Sequence[Hashable]) -> dict[str, dict[str, Curve]]:
    """Effect of a cut, of its random control, and the difference of both, each as curves by metric.

    Args:
        dense: [n, 3], METRICS of the dense model.
        cut: [n, L, 3].
        control: [n, L, 3].
        groups: Cluster of each sample.
    """
    dense = np.broadcast_to(dense[:, None], cut.shape)
    return {
        "cut": _effects(dense, cut, groups),
        "random": _effects(dense, control, groups),
        "beyond_random": _effects(control, cut, groups),
    }


def _effects(before: Array, after: Array, groups: Sequence[Hashable]) -> dict[str, Curve]:
    correct, probability, kl = (METRICS.index(name) for name in ("correct", "probability", "kl"))
    return {
        "accuracy_drop": _drops(before[..., correct], after[..., correct], groups),
        "probability_drop": mean_curve(before[..., probability] - after[..., probability], groups),
        "kl": mean_curve(after[..., kl] - before[..., kl], groups),
    }


def _drops(before: Array, after: Array, groups: Sequence[Hashable]) -> Curve:
    """Accuracy lost in each layer by `paired_drop`, whose interval has a width even where no verdict changes."""
    ends = np.full((3, after.shape[1]), np.nan)
    for layer in range(after.shape[1]):
        old, new = before[:, layer], after[:, layer]
        if not np.isnan(old - new).any():
            found = paired_drop(old.tolist(), new.tolist(), groups)
            ends[:, layer] = found.mean, found.low, found.high
    return curve(*ends)
