"""The ways of searching that are compared, by their name in a study file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from autoprune.search.policy.gp import GpPolicy
from autoprune.search.policy.protocol import Policy, SearchProblem
from autoprune.search.sampled import SampledPolicy
from autoprune.search.space import SearchSpace


def _sampled(kind: Literal["tpe", "nsga2", "random"]) -> Callable[[SearchProblem], Policy]:
    def make(problem: SearchProblem) -> Policy:
        assert isinstance(problem.space, SearchSpace), "Optuna's samplers need a space with parameters"
        return SampledPolicy(problem, problem.space, kind)

    return make


SAMPLERS: Mapping[str, Callable[[SearchProblem], Policy]] = {
    "gp": GpPolicy,
    "tpe": _sampled("tpe"),
    "nsga2": _sampled("nsga2"),
    "random": _sampled("random"),
}
"""No candidate is stopped early here: a replay asks what is found, not what a race saves."""
