"""Costs of schedules before they are measured: exact where token counts decide, else estimated from what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.evaluate.objectives import FLOPS, LATENCY
from autoprune.pricing.lookup import PriceLookup
from autoprune.schedule import Keep, Schedule, Stage
from autoprune.search.policy.kernel import method_of
from autoprune.search.policy.protocol import CostEstimate, Floats

_PRIOR_SD = 0.2  # of the share of tokens that hold a share of the score, before any was seen
_LEAST_SD = 0.02
_STEPS = 30
_LATENCY_SPREAD = 0.1  # of the time ratio around the FLOPs ratio, before any was measured
_TIMING_SD = 0.02


@dataclass(frozen=True)
class _MeasuredCosts:
    """Costs of one schedule, mean over the rows that were measured."""

    costs: Mapping[str, float]
    rows: int

    def joined(self, cost: Mapping[str, float], rows: int) -> _MeasuredCosts:
        total = self.rows + rows
        both = {name: (self.costs.get(name, new) * self.rows + new * rows) / total for name, new in cost.items()}
        return _MeasuredCosts({**self.costs, **both}, total)


class DataCosts:
    """Costs on one data set.

    FLOPs and cache bytes of fixed ratios and counts are exact. How many tokens an adaptive stage keeps is estimated
    from schedules with that stage, else from the same method and rule at other layers. Times are regressed on the FLOPs
    and the stages of the schedules that were timed.

    Args:
        lookup: Exact prices.
        rows: Rows of the data.
    """

    def __init__(self, lookup: PriceLookup, rows: int) -> None:
        self._lookup, self._rows = lookup, rows
        self._measured: dict[str, tuple[Schedule, _MeasuredCosts]] = {}
        self._shares: dict[tuple[str | None, str, float], dict[int, list[float]]] = {}

    def estimate(self, name: str, schedules: Sequence[Schedule]) -> CostEstimate:
        """Costs relative to dense by the name of an objective."""
        if name == LATENCY.name:
            return self._times(schedules)
        each = [self._price(name, schedule) for schedule in schedules]
        return CostEstimate(np.array([mean for mean, _ in each]), np.array([sd for _, sd in each]))

    def alive(self, schedule: Schedule) -> list[float]:
        """Visual tokens alive before the first stage and after each stage, mean over the rows."""
        return self._lookup.alive(self._fixed(schedule))

    def note(self, schedule: Schedule, cost: Mapping[str, float], rows: int) -> None:
        """Takes up a measured cost."""
        if not cost:
            return
        _, before = self._measured.get(schedule.key, (schedule, _MeasuredCosts({}, 0)))
        self._measured[schedule.key] = schedule, before.joined(cost, rows)
        adaptive = [stage for stage in schedule.stages if _is_adaptive(stage)]
        if len(adaptive) == 1 and FLOPS.name in cost:
            stage = adaptive[0]
            share = self._share_behind(schedule, cost[FLOPS.name])
            self._shares.setdefault(_rule(stage), {}).setdefault(stage.layer, []).append(share)

    def _price(self, name: str, schedule: Schedule) -> tuple[float, float]:
        ratios = self._lookup.flops_ratios if name == FLOPS.name else self._lookup.kv_ratios
        adaptive = [place for place, stage in enumerate(schedule.stages) if _is_adaptive(stage)]
        if not adaptive:
            return float(ratios([schedule])[0]), 0.0
        middle, *moved = ratios([self._fixed(schedule), *(self._fixed(schedule, place) for place in adaptive)])
        prior_sd = max(float(np.sqrt(sum((m - middle) ** 2 for m in moved))), 1e-6)
        _, known = self._measured.get(schedule.key, (schedule, _MeasuredCosts({}, 0)))
        if name not in known.costs:
            return float(middle), prior_sd
        return known.costs[name], prior_sd * float(np.sqrt(max(1 / known.rows - 1 / self._rows, 0.0)))

    def _fixed(self, schedule: Schedule, higher: int | None = None) -> Schedule:
        """The same schedule with ratios in the place of adaptive rules; at one place a standard error higher."""
        if not any(_is_adaptive(stage) for stage in schedule.stages):
            return schedule
        alive, stages = 1.0, []
        for place, stage in enumerate(schedule.stages):
            if _is_adaptive(stage):
                mean, sd = self._share(stage)
                alive *= float(np.clip(mean + sd * (place == higher), 1e-3, 1.0))
                stages.append(_with_ratio(stage, alive))
            else:
                if stage.keep.ratio is not None:
                    alive = min(alive, stage.keep.ratio)
                    stage = _with_ratio(stage, alive)
                else:
                    alive = min(alive, stage.keep.value / max(self._lookup.visual_tokens, 1.0))
                stages.append(stage)
        return Schedule(stages=tuple(stages))

    def _share(self, stage: Stage) -> tuple[float, float]:
        """Share of the tokens alive that an adaptive stage keeps, and its standard error."""
        by_layer = self._shares.get(_rule(stage), {})
        own = by_layer.get(stage.layer, [])
        if own:
            return float(np.mean(own)), max(float(np.std(own)), _LEAST_SD) / np.sqrt(len(own))
        others = [float(np.mean(seen)) for seen in by_layer.values()]
        if others:
            return float(np.mean(others)), max(float(np.std(others)), _PRIOR_SD / 2)
        return stage.keep.mass if stage.keep.mass is not None else 0.5, _PRIOR_SD

    def _share_behind(self, schedule: Schedule, flops: float) -> float:
        """Share of the tokens alive that the one adaptive stage of a schedule kept, from what the schedule cost."""
        low, high = 1e-3, 1.0
        for _ in range(_STEPS):
            share = (low + high) / 2
            alive, stages = 1.0, []
            for stage in schedule.stages:
                if _is_adaptive(stage):
                    alive *= share
                elif stage.keep.ratio is not None:
                    alive = min(alive, stage.keep.ratio)
                stages.append(stage if stage.keep.kind == "count" else _with_ratio(stage, alive))
            above = self._lookup.flops_ratios([Schedule(stages=tuple(stages))])[0] > flops
            low, high = (low, share) if above else (share, high)
        return (low + high) / 2

    def _times(self, schedules: Sequence[Schedule]) -> CostEstimate:
        """Bayesian linear regression of time minus FLOPs on a constant, the FLOPs and the selecting stages."""
        timed = [(s, m.costs[LATENCY.name]) for s, m in self._measured.values() if LATENCY.name in m.costs]
        x = self._time_features(schedules)
        precision = np.eye(x.shape[1]) / _LATENCY_SPREAD**2
        shift: Floats = np.zeros(x.shape[1])
        if timed:
            seen = self._time_features([schedule for schedule, _ in timed])
            rest = np.array([value for _, value in timed]) - seen[:, 1]
            precision += seen.T @ seen / _TIMING_SD**2
            shift = np.asarray(np.linalg.solve(precision, seen.T @ rest / _TIMING_SD**2), dtype=float)
        mean: Floats = x[:, 1] + x @ shift
        sd: Floats = np.sqrt(np.einsum("ij,jk,ik->i", x, np.linalg.inv(precision), x) + _TIMING_SD**2)
        known = {schedule.key: value for schedule, value in timed}
        for place, schedule in enumerate(schedules if known else ()):
            if schedule.key in known:
                mean[place], sd[place] = known[schedule.key], 0.0
        return CostEstimate(mean, sd)

    def _time_features(self, schedules: Sequence[Schedule]) -> Floats:
        flops = [self._price(FLOPS.name, schedule)[0] for schedule in schedules]
        selecting = [sum(stage.selects for stage in schedule.stages) for schedule in schedules]
        return np.stack([np.ones(len(flops)), np.array(flops), 0.1 * np.array(selecting)], axis=1)


def _is_adaptive(stage: Stage) -> bool:
    return stage.keep.kind in ("mass", "threshold")


def _rule(stage: Stage) -> tuple[str | None, str, float]:
    return method_of(stage), stage.keep.kind, stage.keep.value


def _with_ratio(stage: Stage, ratio: float) -> Stage:
    """A stage of the same price that keeps a fixed share; a withdrawal merges nothing."""
    keeps = 0 < ratio < 1
    return Stage(
        layer=stage.layer,
        keep=Keep(ratio=ratio),
        criterion=stage.criterion if keeps else None,
        merge=stage.merge if keeps else None,
    )
