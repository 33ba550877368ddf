"""From the curves of a withdrawal sweep to a layer, or to none."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from autoprune.errors import DataError
from autoprune.measure.statistics import clustered_means

Rule = Literal["robust", "vtw-compat"]
ETA = 0.003
"""The authors' bound in nats (VTW) for LLaVA-1.5-7B and every model they do not name."""
VTW_FIRST_LAYER = 5


def vtw_compat(kl: ArrayLike, eta: float = ETA) -> int | None:
    """The layer that VTW's released search takes: the first one from 5 on whose mean KL is at most `eta`.

    The authors' code fails where no layer qualifies; here there is none.

    Args:
        kl: [n, L], KL(withdrawn ‖ dense) at the first answer token.
        eta: Bound in nats.

    Returns:
        The layer before which to withdraw, or None.
    """
    means = np.asarray(kl, dtype=float).mean(0)
    return next((k for k in range(VTW_FIRST_LAYER, len(means)) if means[k] <= eta), None)


def robust(kl: ArrayLike, noise: ArrayLike, groups: Sequence[Hashable], eta: float = ETA) -> int | None:
    """The shallowest layer at which, and at every deeper one, withdrawal surely does next to nothing.

    "Surely": not the mean but the upper end of its 95 % interval (bootstrap over groups) is at most `eta`. `eta` counts
    from the noise floor: of each sample, the KL that the dense model has against itself when other kernels compute it
    is taken off first, so that a bound as small as the rounding of half precision still means something. As every
    deeper layer has to pass as well, no correction for looking at many layers is needed.

    Args:
        kl: [n, L], KL(dense ‖ withdrawn), mean over the answer's tokens.
        noise: [n], the same of the dense model against itself.
        groups: Cluster of each sample.
        eta: Bound in nats above the noise floor.

    Returns:
        The layer before which to withdraw; None: the honest answer is not to withdraw.

    Raises:
        DataError: fewer than two groups.
    """
    excess = np.asarray(kl, dtype=float) - np.asarray(noise, dtype=float)[:, None]
    check_groups(groups)
    passes = clustered_means(excess, groups)[2] <= eta
    deeper = np.flip(np.logical_and.accumulate(np.flip(passes)))
    return int(deeper.argmax()) if deeper.any() else None


def check_groups(groups: Sequence[Hashable]) -> None:
    """Refuse samples from which no spread can be told.

    Raises:
        DataError: they are of fewer than two groups.
    """
    if len(set(groups)) < 2:
        raise DataError(
            "intervals need samples of at least two groups",
            field="samples",
            value=len(groups),
            remedy="give more rows; rows of one image, or of one `group`, count as one",
        )
