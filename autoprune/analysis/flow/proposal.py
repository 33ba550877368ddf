"""Layers K1 and K2 of HiMAP's two stages, chosen from the curves of the flow by a rule.

A stage that keeps a share r of the visual tokens comes before the first layer from which on at most that share of the
flow out of visual tokens is still to come. For K1, whose criterion is the attention of the text, the flow is
visual→text; for K2, whose criterion is the attention of the image itself, it is visual→text and visual→visual together.
The upper end of the 95 % interval has to keep the rule. HiMAP's authors chose (2, 8) and (2, 15) of 32 by eye.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.analysis.flow.saliency import TEXT, VISUAL
from autoprune.errors import EvaluationError
from autoprune.evaluate.statistics import Array, Curve, mean_curve

KEEP = (0.5, 0.125)
"""Shares of the visual tokens that HiMAP leaves after its stages."""


@dataclass(frozen=True)
class ProposedLayers:
    """Layers proposed for HiMAP's two stages, and the curves that they follow from.

    Attributes:
        layers: (K1, K2), 0-based, pruned before; None where no layer keeps the rule.
        keep: Share of the visual tokens left after each stage.
        to_text: Share of the visual→text flow that is still to come, before each layer.
        to_all: The same of visual→text and visual→visual together.
    """

    layers: tuple[int | None, int | None]
    keep: tuple[float, float]
    to_text: Curve
    to_all: Curve

    @property
    def complete(self) -> bool:
        """Whether there is a layer for both stages."""
        return None not in self.layers

    def checked_layers(self) -> tuple[int, int]:
        """The two layers of HiMAP, checked.

        Raises:
            EvaluationError: no layer keeps the rule.
        """
        first, second = self.layers
        if first is not None and second is not None:
            return first, second
        number, curve = (1, self.to_text) if first is None else (2, self.to_all)
        raise EvaluationError(
            f"these curves propose no K{number}: before the last layer up to {curve.high[-1]:.1%} of the flow out of "
            f"visual tokens may be to come, more than the {self.keep[number - 1]:.1%} that would be kept",
            field="proposal",
            remedy="look for schedules with `autoprune calibrate` instead",
        )


def propose(flows: Array, groups: Sequence[Hashable], keep: tuple[float, float] = KEEP) -> ProposedLayers:
    """Layers for HiMAP's two stages by the rule of this module.

    Args:
        flows: [n, L, 2, 2], NaN in layers without attention.
        groups: Cluster of each sample.
        keep: Share of the visual tokens left after each stage.
    """
    readable = ~np.isnan(flows[0, :, VISUAL, VISUAL])
    out = np.nan_to_num(flows[..., VISUAL])
    to_text = mean_curve(_to_come(out[..., TEXT]), groups)
    to_all = mean_curve(_to_come(out.sum(-1)), groups)
    first = _first(to_text, keep[0], readable, 1)
    second = None if first is None else _first(to_all, keep[1], readable, first + 1)
    return ProposedLayers((first, second), keep, to_text, to_all)


def _to_come(flow: Array) -> Array:
    """[n, L]: share of each sample's flow in layer k and deeper."""
    total = flow.sum(1, keepdims=True)
    shares: Array = flow[:, ::-1].cumsum(1)[:, ::-1] / np.where(total > 0, total, 1.0)
    return shares


def _first(curve: Curve, keep: float, readable: Array, start: int) -> int | None:
    """The first layer from `start` on that keeps the rule, and before which there is attention to score with."""
    layers = range(start, len(readable))
    return next((k for k in layers if readable[k - 1] and (curve.high[k] or 0.0) <= keep), None)
