"""Expected improvement of a front by a candidate, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from autoprune.search.policy.protocol import Floats

_SMALLEST_SD = 1e-9
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_SHARES = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Staircase:
    """The least loss that measured points reach at each cost, below a reference point.

    Attributes:
        edges: FloatArray[J + 1], increasing costs; the first is minus infinity, the last is the reference cost.
        levels: FloatArray[J], least loss between two edges; the reference loss where no point is that cheap.
    """

    edges: Floats
    levels: Floats

    @classmethod
    def of(cls, costs: Sequence[float], losses: Sequence[float], reference: tuple[float, float]) -> Staircase:
        """The staircase of points; those beyond the reference (cost, loss) do not count."""
        edges, levels = [-np.inf], [reference[1]]
        for cost, loss in sorted(zip(costs, losses, strict=True)):
            if cost < reference[0] and loss < levels[-1]:
                if cost > edges[-1]:
                    edges.append(cost)
                    levels.append(loss)
                else:
                    levels[-1] = loss
        return cls(np.array([*edges, reference[0]]), np.array(levels))

    def level_at(self, costs: Floats) -> Floats:
        """FloatArray, least loss of the points that cost no more."""
        place = np.searchsorted(self.edges, costs, side="right") - 1
        found: Floats = self.levels[np.clip(place, 0, len(self.levels) - 1)]
        return found

    @property
    def reference(self) -> float:
        """The reference cost."""
        return float(self.edges[-1])


def expected_improvement(front: Staircase, costs: Floats, mean: Floats, sd: Floats) -> Floats:
    """FloatArray[n]: expected growth of the hypervolume, for known costs and normally distributed losses.

    At a cost c the front's loss L(c) improves by max(0, L(c) - loss); its expectation is that of the expected
    improvement, and L is constant between two edges (after Emmerich et al., Congress on Evolutionary Computation 2011,
    with one objective known).

    Args:
        front: The front so far.
        costs: FloatArray[n].
        mean: FloatArray[n], expected losses.
        sd: FloatArray[n], their standard deviation.
    """
    spread = np.maximum(sd, _SMALLEST_SD)[:, None]
    z = (front.levels[None, :] - mean[:, None]) / spread
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    gain = spread * (density + z * ndtr(z))
    widths = front.edges[None, 1:] - np.maximum(front.edges[None, :-1], costs[:, None])
    total: Floats = (gain * np.maximum(widths, 0.0)).sum(1)
    return total


def expected_improvement_at_uncertain_cost(
    front: Staircase, costs: Floats, cost_sd: Floats, mean: Floats, sd: Floats
) -> Floats:
    """FloatArray[n]: `expected_improvement` over normally distributed costs, by Gauss-Hermite quadrature.

    Args:
        front: The front so far.
        costs: FloatArray[n], expected costs.
        cost_sd: FloatArray[n], their standard error; 0 = known.
        mean: FloatArray[n], expected losses.
        sd: FloatArray[n], their standard deviation.
    """
    known = expected_improvement(front, costs, mean, sd)
    open_ = np.flatnonzero(cost_sd > 0)
    if len(open_):
        known[open_] = sum(
            share * expected_improvement(front, costs[open_] + node * cost_sd[open_], mean[open_], sd[open_])
            for node, share in zip(_NODES, _SHARES, strict=True)
        )
    return known
