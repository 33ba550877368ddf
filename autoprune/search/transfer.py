"""A schedule of one model carried over to another: mapped by relative depth, measured, and improved step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autoprune import presets
from autoprune.data.samples import SampleSet
from autoprune.errors import ModelError, ScheduleError
from autoprune.evaluate.abilities import refused_criteria
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.metrics import evidence_metric
from autoprune.evaluate.objectives import ACCURACY, FLOPS
from autoprune.evaluate.paired import signs
from autoprune.evaluate.results import SampleResult, Summary, summarise
from autoprune.models.capabilities import layers_without_attention
from autoprune.models.environment import versions
from autoprune.models.loading import LoadedModel
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.schedule.evidence import measured_evidence
from autoprune.search.methods import every_criterion
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

_TRIED_TOGETHER = 8
_CHEAPER = 0.99
"""Share of the FLOPs below which a schedule is cheaper: for less, no other method is taken on a few rows."""
_ERROR = 0.05
"""Error allowed to the claim that a dearer-or-equal schedule is better: one-sided sign test over groups."""


@dataclass(frozen=True)
class Placed:
    """A schedule and what it gave on the rows.

    Attributes:
        schedule: The schedule.
        summary: Its figures.
    """

    schedule: Schedule
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Layers, keeps and figures as a JSON object."""
        stages = self.schedule.stages
        return {
            "layers": [s.layer for s in stages],
            "keep": [s.keep.model_dump(exclude_none=True) for s in stages],
            "criteria": [s.criterion.label if s.selects and s.criterion else None for s in stages],
            "merge": [s.merge for s in stages],
            **{name: getattr(self.summary, name) for name in (FLOPS.figure, ACCURACY.figure, "drop")},
        }


@dataclass(frozen=True)
class Transfer:
    """Outcome of a transfer.

    Attributes:
        source: Model that the schedule came from, its depth, and the layers there.
        mapped: The schedule at the same relative depth of the new model.
        found: Where the local search ended; the same as `mapped` if no step was better.
        schedule: `found`, for the new model, with its evidence.
        tried: Schedules that the local search measured.
        steps: Steps that it took.
        note: Why there was no local search, or None.
    """

    source: dict[str, Any]
    mapped: Placed
    found: Placed
    schedule: Schedule
    tried: int
    steps: int
    note: str | None

    def to_dict(self) -> dict[str, Any]:
        """How far the schedule moved, as a JSON object."""
        values = {key: value for key, value in asdict(self).items() if key in ("source", "tried", "steps", "note")}
        return {
            **values,
            "mapped": self.mapped.to_dict(),
            "found": self.found.to_dict(),
            "samples": self.found.summary.samples,
        }


def transfer_schedule(
    loaded: LoadedModel,
    schedule: Schedule,
    data: SampleSet,
    *,
    name: str = "",
    tries: int = 48,
    seed: int = 0,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    on_step: Callable[[str], None] = lambda step: None,
) -> Transfer:
    """Maps a schedule to a model, measures it, and walks to neighbours that cost no more and lose no more.

    A step is taken to a schedule that costs no more and is better by a paired sign test over groups, or that costs at
    least 1 % less and is right on as many of the rows, the cheapest first. Both are judged on the rows themselves, so
    the loss that is left is a little flattered; ``autoprune verify`` measures it on other rows.

    Args:
        loaded: The new model.
        schedule: The schedule; its `model` says which depth its layers are of.
        data: A few rows.
        name: Of the new model, in the schedule.
        tries: Most schedules that the local search measures; 0 = none.
        seed: Of the order in which neighbours are tried.
        batch_size: Rows of a batch.
        max_new_tokens: Longest answer.
        on_step: Called with a sentence on what is about to run.

    Raises:
        ScheduleError: the model is too shallow for it, or it prunes nothing.
        ModelError: the model cannot run a criterion of it, or its answers cannot be checked by teacher forcing.
    """
    identity = ModelIdentity.from_config(loaded.config, name)
    if not any(stage.keep.ratio != 1 for stage in schedule.stages):
        raise ScheduleError("prunes nothing", field="schedule", remedy="give one with a stage that drops tokens")
    mapped = presets.mapped(schedule, identity.num_layers)
    space = _space_around(loaded, data, mapped, identity.num_layers)
    metric = evidence_metric(schedule.evidence)
    evaluator = Evaluator(
        loaded, data, batch_size=batch_size, max_new_tokens=max_new_tokens, criteria=space.criteria, metric=metric
    )
    on_step(f"answering {len(data)} rows with the dense model")
    dense = evaluator.dense()
    if evaluator.by_generating is not None:
        on_step(evaluator.by_generating)
    on_step("measuring the schedule at the same relative depth")
    start = _OnRows(mapped, evaluator.evaluate(mapped))
    end, tried, steps = _walked(evaluator, space, start, tries, np.random.default_rng(seed), on_step)
    note = None
    if tries and not space.holds(mapped):
        note = "no local search: its stages keep counts or a threshold, or renumber positions, which no neighbour does"
    before, after = (Placed(one.schedule, summarise(one.results, dense)) for one in (start, end))
    source = mapped.evidence["mapped_from"]
    evidence = measured_evidence(
        "autoprune transfer",
        mapped_from=source,
        mapped_layers=[stage.layer for stage in mapped.stages],
        before=_figures(before.summary),
        **_figures(after.summary),
        tried=tried,
        chosen_on="the same rows",
        **metric.evidence,
        data=data.name,
        data_digest=data.digest,
        samples=len(data),
        max_new_tokens=max_new_tokens,
        **loaded.measured_in,
        model_fingerprint=loaded.fingerprint,
        versions=versions(),
    )
    stamped = end.schedule.model_copy(update={"model": identity, "evidence": evidence})
    return Transfer(source, before, after, stamped, tried, steps, note)


@dataclass(frozen=True)
class _OnRows:
    schedule: Schedule
    results: Sequence[SampleResult]

    @property
    def flops(self) -> int:
        return sum(result.flops for result in self.results)

    @property
    def correct(self) -> list[float]:
        return [result.correct for result in self.results]

    @property
    def right(self) -> float:
        return sum(self.correct)

    @property
    def kl(self) -> float:
        return sum(result.kl for result in self.results)


def _walked(
    evaluator: Evaluator,
    space: SearchSpace,
    start: _OnRows,
    tries: int,
    rng: np.random.Generator,
    on_step: Callable[[str], None],
) -> tuple[_OnRows, int, int]:
    """The end of a walk to better neighbours, how many schedules it measured, and how many steps it took."""
    here, seen, steps = start, {start.schedule.key}, 0
    waiting = list(space.neighbours(here.schedule, rng))
    while waiting and len(seen) <= tries:
        count = min(_TRIED_TOGETHER, tries + 1 - len(seen))
        batch, waiting = waiting[:count], waiting[count:]
        batch = [schedule for schedule in batch if schedule.key not in seen]
        seen.update(schedule.key for schedule in batch)
        on_step(f"local search: schedule {len(seen) - 1} of at most {tries}, {steps} steps taken")
        found = map(_OnRows, batch, evaluator.evaluate_many(batch))
        better = [one for one in found if _is_better(one, here)]
        if better:
            here = min(better, key=lambda one: (one.flops, -one.right, one.kl))
            waiting, steps = list(space.neighbours(here.schedule, rng)), steps + 1
    return here, len(seen) - 1, steps


def _is_better(one: _OnRows, here: _OnRows) -> bool:
    """Whether it costs no more and is better with confidence, or clearly less and is right on as many rows."""
    if one.flops > here.flops:
        return False
    if one.flops <= _CHEAPER * here.flops and one.right >= here.right:
        return True
    return signs(one.correct, here.correct, [result.group for result in one.results]).p <= _ERROR


def _space_around(loaded: LoadedModel, data: SampleSet, schedule: Schedule, num_layers: int) -> SearchSpace:
    """The default space of the model, with the criteria and the keeps of a schedule.

    Raises:
        ModelError: the model cannot run a criterion of the schedule.
    """
    own = tuple(dict.fromkeys(s.criterion for s in schedule.stages if s.selects and s.criterion))
    refused = refused_criteria(loaded, data, tuple(dict.fromkeys((*own, *every_criterion()))))
    for criterion in own:
        if criterion.label in refused:
            raise ModelError(
                f"this model cannot run it: {refused[criterion.label]}",
                field="criterion",
                value=criterion.label,
                remedy="transfer a schedule with another criterion, or calibrate this model",
            )
    keeps = [stage.keep for stage in schedule.stages]
    ratios = {keep.ratio for keep in keeps if keep.ratio is not None and keep.ratio < 1}
    masses = {keep.mass for keep in keeps if keep.mass is not None and keep.mass < 1}
    options = Space(
        keep=tuple(sorted({*Space().keep, *ratios})),
        mass=tuple(sorted(masses)),
        also=tuple(criterion for criterion in own if criterion not in every_criterion()),
        max_stages=max(Space().max_stages, len(keeps)),
    )
    return SearchSpace.of(options, num_layers, refused, layers_without_attention(loaded.config))


def _figures(summary: Summary) -> dict[str, Any]:
    """The figures that evidence has, whichever command made it."""
    names = (FLOPS.figure, ACCURACY.figure, "drop", "drop_ci", "drop_se")
    return {name: getattr(summary, name) for name in names}
