"""What a study searches, as its policy sees it, and the policy that the study file names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprune.pricing.lookup import PriceLookup
from autoprune.search.initial import InitialSchedule
from autoprune.search.policy.costs import DataCosts
from autoprune.search.policy.protocol import Policy, SearchProblem
from autoprune.search.sampled import SampledPolicy
from autoprune.search.space import SearchSpace
from autoprune.search.study import Study


def search_problem(study: Study, space: Any, initial: Sequence[InitialSchedule]) -> SearchProblem:
    """The problem of a study on its model."""
    spec, data = study.spec, study.inputs.calibration
    lookup = PriceLookup(study.inputs.config, study.facts.prompts, study.facts.number_bytes)
    return SearchProblem(
        space=space,
        initial=tuple(initial),
        num_layers=study.inputs.num_layers,
        tasks=data.tasks,
        groups=data.groups,
        costs=spec.costs,
        qualities=spec.qualities,
        price=DataCosts(lookup, data.size),
        max_drop=spec.constraints.max_drop,
        seed=spec.search.seed,
    )


def make_policy(study: Study, space: SearchSpace, problem: SearchProblem) -> Policy:
    """The policy that the study file names."""
    return SampledPolicy(problem, space, study.spec.search.sampler)
