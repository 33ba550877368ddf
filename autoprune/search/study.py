"""Frozen values between the steps of a study: the study with its model, its measurements, and facts of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.controls import ArmResult
from autoprune.search.costs import Phase, PhaseCost
from autoprune.search.estimate import Expected
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.scope import Scope
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import EngineFacts, Inputs, Split, SplitFacts, Times

DENSE = Schedule()


@dataclass(frozen=True)
class Study:
    """A study whose model is loaded: its file, its data, and the facts of its model."""

    spec: StudySpec
    inputs: Inputs
    facts: EngineFacts

    @cached_property
    def scope(self) -> Scope:
        """What it tries on this model."""
        return Scope.of(self.spec, self.inputs.config, self.inputs.num_layers, self.facts.refused)

    @property
    def splits(self) -> dict[Split, SplitFacts]:
        """The data sets that it has."""
        splits: dict[Split, SplitFacts] = {"calibration": self.inputs.calibration}
        return splits | {"validation": self.inputs.validation} if self.inputs.validation else splits

    def key(self, split: Split) -> DataKey:
        """Address of the results on a data set."""
        return DataKey(self.facts.fingerprint, self.splits[split].digest, self.facts.metric_version, split)


@dataclass(frozen=True)
class Measurements:
    """Results and times of a number of schedules.

    Attributes:
        whole: Results of all rows of a data set, in order, by data set and schedule key; partial ones are left out.
        times: Times by schedule key.
        arms: Control arms, measured on as many rows as their comparison took.
        arms_on: Data set that these rows are of.
    """

    whole: Mapping[tuple[Split, str], Sequence[SampleResult]]
    times: Mapping[str, Times] = field(default_factory=dict)
    arms: Sequence[ArmResult] = ()
    arms_on: Split = "validation"

    def results(self, split: Split, schedule: Schedule) -> Sequence[SampleResult] | None:
        """All results of a schedule on a data set, or None."""
        return self.whole.get((split, schedule.key))

    @classmethod
    def known(
        cls, study: Study, ledger: Ledger, schedules: Sequence[Schedule], times: Mapping[str, Times] | None = None
    ) -> Measurements:
        """Measurements of these schedules that the ledger has, on every data set of the study."""
        whole = {}
        for split, data in study.splits.items():
            for schedule in {s.key: s for s in schedules}.values():
                results = ledger.results(study.key(split), schedule)
                if len(results) == data.size:
                    whole[split, schedule.key] = list(results.values())
        return cls(whole, times or {})


@dataclass(frozen=True)
class RunFacts:
    """Facts of one run of a study.

    Attributes:
        complete: Whether it was not stopped by Ctrl-C.
        started: When it began, in UTC.
        seconds: How long all of it took.
        seconds_search: How long it took until the search ended.
        hardware: Where it ran.
        versions: Of the packages that results depend on.
        worker_restarts: Workers that were replaced.
        costs: Cost of each phase, over all runs of the study.
        peak_bytes: Largest memory of a worker; None where it is not known.
        estimate: What was expected before; None for a study that was taken up again.
        hit_rate: Share of the layers' work on candidates that was taken from another candidate or from dense; None if
            none was measured.
    """

    complete: bool
    started: str
    seconds: float
    seconds_search: float
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    worker_restarts: int
    costs: Mapping[Phase, PhaseCost]
    hit_rate: float | None = None
    peak_bytes: int | None = None
    estimate: Expected | None = None
