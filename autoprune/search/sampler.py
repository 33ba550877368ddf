"""Optuna samplers for our objectives."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Literal

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

CONSTRAINTS = "constraints"
"""User attribute of a trial: how far each bound is exceeded; ≤ 0 = kept."""


def make_sampler(
    kind: Literal["tpe", "nsga2", "random"], seed: int, known: int, constrained: bool = False
) -> BaseSampler:
    """A sampler for a study, new or resumed.

    The seed depends on how many candidates are known: with the same seed again, a resumed sampler would repeat the
    draws that it made when it was new.
    """
    mixed = int.from_bytes(hashlib.sha256(f"{seed}:{known}".encode()).digest()[:4], "big")
    constraints = _violations if constrained else None
    if kind == "random":
        return RandomSampler(seed=mixed)
    with warnings.catch_warnings():
        # Joint modelling is called experimental, and `constraints_func` has a successor that Optuna 4 does not know.
        warnings.simplefilter("ignore")
        if kind == "nsga2":
            return _FixedNsga2(seed=mixed, population_size=24, constraints_func=constraints)
        return _FixedTpe(
            seed=mixed,
            multivariate=True,
            constant_liar=True,
            constraints_func=constraints,
            n_startup_trials=16,
        )


def _parameters(study: Study) -> dict[str, BaseDistribution]:
    """The parameters that every trial has: a space is the same numbers in all of its draws."""
    drawn = next((t for t in study.get_trials(deepcopy=False) if t.params), None)
    return {name: d for name, d in sorted(drawn.distributions.items()) if not d.single()} if drawn else {}


class _FixedNsga2(NSGAIISampler):
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return _parameters(study)


class _FixedTpe(TPESampler):
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return _parameters(study)


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial keeps every bound of the study."""
    return all(violation <= 0 for violation in trial.user_attrs.get(CONSTRAINTS, ()))


def silence_optuna() -> None:
    """Optuna logs every trial by itself; the study reports its own events."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _violations(trial: FrozenTrial) -> Sequence[float]:
    violations: Sequence[float] = trial.user_attrs.get(CONSTRAINTS, [])
    return violations
