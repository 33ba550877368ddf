"""Collects results outside the search: the dense reference, held-out rows, control arms, and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial

from autoprune.errors import EvaluationError
from autoprune.evaluate.objectives import quality_of
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.controls import ControlRace
from autoprune.search.costs import Phase, PhaseCost, cost_of, timing_cost
from autoprune.search.finalists import front_trials, held_out_schedules, near_dense
from autoprune.search.ledger import Ledger
from autoprune.search.measuring import Measurer
from autoprune.search.study import DENSE, Measurements, Study
from autoprune.search.trials import candidate_of, is_distinct, measured_of, schedule_of
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Split, Task, Times

_CHUNK, _LEAST_CHUNK = 64, 16
"""Rows of one task. A worker prepares the rows of a chunk once for all schedules, and lets them go afterwards."""


class Collector:
    """Fills the ledger with what a front rests on.

    Args:
        stopping: Asked before a task is started; True = no new ones.
    """

    def __init__(
        self, study: Study, executor: Executor, ledger: Ledger, on_event: OnEvent, stopping: Callable[[], bool]
    ) -> None:
        self._study, self._ledger = study, ledger
        self._on_event, self._stopping = on_event, stopping
        self._measurer = Measurer(study, executor, ledger, on_event, stopping)

    def dense(self) -> list[SampleResult]:
        """Results of the dense model on all calibration rows.

        Raises:
            EvaluationError: it fails.
        """
        size = self._study.inputs.calibration.size
        failed = self._measurer.measure("calibration", [DENSE], range(size), chunk=size)
        dense = self._results("calibration", DENSE)
        if len(dense) == size:
            return list(dense.values())
        raise EvaluationError(
            f"the dense model cannot be measured: {failed[DENSE.key]}",
            remedy="check the model and the calibration rows with the unpatched model first",
        )

    def front(self, trials: Sequence[FrozenTrial], dense: Sequence[SampleResult]) -> None:
        """Measures the points near dense, the baselines and control arms on the held-out rows.

        Rung by rung: all of them on the same rows together, so that a worker prepares these rows once; then the arms
        whose comparison is decided, or can hardly be decided any more, are dropped. Points and baselines are measured
        on all rows, because what is promised of a point on export rests on them. A study without held-out rows compares
        arms on the calibration rows.

        Args:
            trials: All trials.
            dense: Results of the dense model on the calibration rows.
        """
        split, race = self._split, self._race(trials, dense)
        whole = held_out_schedules(self._study, dense, trials) if split == "validation" else []
        failed: dict[str, str] = {}
        self._on_event(Event("phase", "validation and control arms"))
        behind, total = 0, self._study.splits[split].size
        for rows in race.rungs():
            if self._stopping():
                break
            arms = race.open(lambda schedule: self._results(split, schedule))
            wanted = [s for s in (*whole, *arms) if s.key not in failed]
            failed |= self._measurer.measure(split, wanted, rows, self._chunk(len(rows)), behind=behind, total=total)
            behind += len(rows)
        for reason in dict.fromkeys(failed.values()):
            self._on_event(Event("warning", f"a schedule of the front could not be measured: {reason}"))

    def known(
        self, trials: Sequence[FrozenTrial], dense: Sequence[SampleResult], times: Mapping[str, Times]
    ) -> Measurements:
        """Measurements of the front, its baselines and its control arms that the ledger has."""
        points = [schedule_of(trial) for trial in front_trials(self._study.spec, trials)]
        shown = [*points, *held_out_schedules(self._study, dense, trials)]
        race = self._race(trials, dense)
        arms = race.results(lambda schedule: self._results(self._split, schedule))
        return replace(Measurements.known(self._study, self._ledger, shown, times), arms=arms, arms_on=self._split)

    def times(self, trials: Sequence[FrozenTrial], dense: Sequence[SampleResult]) -> dict[str, Times]:
        """Times of the points near dense by their key, all measured by one worker; none if that fails."""
        schedules = [schedule_of(trial) for trial in near_dense(self._study.spec, dense, trials)]
        if self._stopping() or not schedules:
            return {}
        self._on_event(Event("phase", "latency"))
        result = self._measurer.on_one_worker(Task(0, "latency", tuple(schedules)))
        if result is None:
            return {}
        if result.value is None:
            self._on_event(Event("warning", f"latency was not measured: {result.failure or result.lost}"))
            return {}
        return {s.key: times for s, times in zip(schedules, result.value, strict=True)}

    def costs(
        self, trials: Sequence[FrozenTrial], dense: Sequence[SampleResult], times: Mapping[str, Times]
    ) -> dict[Phase, PhaseCost]:
        """Cost of each phase, from what the ledger has: the same after a resume as in one run."""
        whole = held_out_schedules(self._study, dense, trials)[1:]
        arms = [arm.schedule for arm in self._race(trials, dense).arms]
        distinct = [t for t in trials if is_distinct(t) and candidate_of(t)]
        searched = [schedule_of(t) for t in distinct]
        # A study that searches for times has timed its candidates during the search, too.
        timed = [*times.items(), *((candidate_of(t)["key"], known) for t in distinct if (known := _times(t)))]
        each = {s.key: self._cost("calibration", [s]) for s in searched if any(s.key == key for key, _ in timed)}
        validated = [] if self._split == "calibration" else whole
        return {
            "dense": sum((self._cost(split, [DENSE]) for split in self._study.splits), PhaseCost()),
            "search": self._cost("calibration", searched),
            "validation": self._cost(self._split, validated),
            "controls": self._cost(self._split, arms, besides=validated if validated else searched),
            "latency": timing_cost([(known, each[key]) for key, known in timed]),
        }

    def _cost(self, split: Split, schedules: Sequence[Schedule], besides: Sequence[Schedule] = ()) -> PhaseCost:
        counted = {s.key: s for s in schedules}
        unique = [s for key, s in counted.items() if key not in {s.key for s in besides}]
        return sum((cost_of(self._results(split, s).values()) for s in unique), PhaseCost())

    @property
    def _split(self) -> Split:
        return "validation" if "validation" in self._study.splits else "calibration"

    def _race(self, trials: Sequence[FrozenTrial], dense: Sequence[SampleResult]) -> ControlRace:
        spec = self._study.spec
        groups = self._study.splits[self._split].groups
        return ControlRace.of(near_dense(spec, dense, trials), groups, quality_of(spec.objectives))

    def _results(self, split: Split, schedule: Schedule) -> dict[int, SampleResult]:
        return self._ledger.results(self._study.key(split), schedule)

    def _chunk(self, rows: int) -> int:
        """Rows of one task, so that every worker has some."""
        each = -(-rows // max(1, self._study.spec.workers.count))
        return min(_CHUNK, max(_LEAST_CHUNK, each))


def _times(trial: FrozenTrial) -> Times | None:
    times: Times | None = measured_of(trial).get("latency")
    return times
