"""Rules that choose the layer to withdraw before, or none, from the divergences of a sweep."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.statistics import LEAST_GROUPS, check_groups, upper_bounds

Rule = Literal["robust", "vtw-compat"]
ETA = 0.003
"""The authors' bound in nats (VTW) for LLaVA-1.5-7B and every model they do not name."""
VTW_FIRST_LAYER = 5


def checked_rule(name: str, eta: float, data: SampleSet) -> Rule:
    """The rule of this name, if it can be followed on these rows.

    Raises:
        DataError: there is no such rule, `eta` is not above 0, or the rule needs rows of at least four groups.
    """
    known: Rule | None = next((rule for rule in get_args(Rule) if rule == name), None)
    if known is None:
        raise DataError("no such rule", field="rule", value=name, remedy=f"use {' or '.join(get_args(Rule))}")
    if not eta > 0:
        raise DataError("must be above 0", field="eta", value=eta, remedy=f"the authors of VTW use {ETA} nats")
    if known == "robust":
        check_groups([sample.group for sample in data], "a bound", LEAST_GROUPS)
    return known


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
    """The shallowest layer from which on withdrawal stays within `eta` at every layer, with 97.5 % confidence.

    Not the mean but its upper bound (`excess_bounds`) is compared with `eta`. As every deeper layer has to pass as
    well, no correction for looking at many layers is needed.

    Args:
        kl: [n, L], KL(dense ‖ withdrawn), mean over the answer's tokens.
        noise: [n], the same of the dense model against itself.
        groups: Cluster of each sample.
        eta: Bound in nats above the noise floor.

    Returns:
        The layer before which to withdraw; None = do not withdraw.

    Raises:
        DataError: fewer than four groups.
    """
    passes = excess_bounds(kl, noise, groups) <= eta
    deeper = np.flip(np.logical_and.accumulate(np.flip(passes)))
    return int(deeper.argmax()) if deeper.any() else None


def excess_bounds(kl: ArrayLike, noise: ArrayLike, groups: Sequence[Hashable]) -> NDArray[np.float64]:
    """Upper 97.5 % bounds [L] of the mean KL above the noise floor; arguments as of `robust`.

    Of each sample, the KL that the dense model has against itself when other kernels compute it is taken off first, so
    that a bound as small as the rounding of half precision still means something.
    """
    return upper_bounds(np.asarray(kl, dtype=float) - np.asarray(noise, dtype=float)[:, None], groups)
