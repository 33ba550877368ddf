"""The ways of searching that are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autoprune.search.policy.gp import GpPolicy
from autoprune.search.policy.protocol import Policy, SearchProblem

SAMPLERS: Mapping[str, Callable[[SearchProblem], Policy]] = {"gp": GpPolicy}
