"""What a study searches, as its policy sees it, and the policy that the study file names."""

from __future__ import annotations

from autoprune.evaluate.objectives import FLOPS
from autoprune.pricing.lookup import PriceLookup
from autoprune.search.initial import initial_schedules
from autoprune.search.policy.costs import DataCosts
from autoprune.search.policy.gp import GpPolicy
from autoprune.search.policy.protocol import Policy, SearchProblem
from autoprune.search.sampled import SampledPolicy
from autoprune.search.study import Study


def search_problem(study: Study) -> SearchProblem:
    """The problem of a study on its model.

    Initial schedules above ``constraints.max_flops`` are left out, but for the baselines: that they are dearer is a
    result.
    """
    spec, scope, data, facts = study.spec, study.scope, study.inputs.calibration, study.facts
    price = DataCosts(PriceLookup(study.inputs.config, facts.prompts, facts.number_bytes), data.size)
    bound = spec.constraints.max_flops
    initial = initial_schedules(scope.baselines, scope.space, study.inputs.num_layers)
    flops = price.estimate(FLOPS.name, [candidate.schedule for candidate in initial]).mean
    able = [
        bound is None or one.origin == "baseline" or cost <= bound for one, cost in zip(initial, flops, strict=True)
    ]
    return SearchProblem(
        space=scope.space,
        initial=tuple(one for one, is_able in zip(initial, able, strict=True) if is_able),
        num_layers=study.inputs.num_layers,
        tasks=data.tasks,
        groups=data.groups,
        costs=spec.costs,
        qualities=spec.qualities,
        price=price,
        within=spec.search.within,
        max_drop=spec.constraints.max_drop,
        max_flops=bound,
        seed=spec.search.seed,
    )


def make_policy(study: Study, problem: SearchProblem) -> Policy:
    """The policy that the study file names."""
    sampler = study.spec.search.sampler
    return GpPolicy(problem) if sampler == "gp" else SampledPolicy(problem, study.scope.space, sampler)
