"""The search loop: draws candidates, evaluates them on workers, races them, and ends every trial exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import AutopruneError, EvaluationError
from autoprune.evaluate.objectives import FIGURES
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.schedule import Schedule
from autoprune.search import objectives, sampler
from autoprune.search.incumbents import Incumbents
from autoprune.search.ledger import Ledger
from autoprune.search.racing import looks, race_order
from autoprune.search.study import Study
from autoprune.search.trials import (
    COUNTED,
    MEASURED,
    Candidate,
    EndedTrial,
    Trials,
    ended_of,
    is_distinct,
    measured_of,
    schedule_of,
)
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Task, TaskResult, Times, Verb

LOSSES_ALLOWED = 1
"""Workers that may die with one candidate; with one more it is to blame."""
_FAILURES_AT_START = 5
_RESTLESS_DRAWS, _EXHAUSTED_DRAWS = 5, 100


@dataclass(frozen=True)
class RunningCandidate:
    """A candidate of the search with its measurements so far.

    Attributes:
        candidate: The trial.
        results: Of the first rows of a race, in its order.
        times: Measured times, where the study asks for them.
    """

    candidate: Candidate
    results: tuple[SampleResult, ...] = ()
    times: Times | None = None

    @property
    def key(self) -> str:
        """Key of the schedule."""
        return self.candidate.schedule.key


class SearchLoop:
    """Runs candidates on an executor until the study has its trials.

    Args:
        dense: The reference on all calibration samples.
        stopping: Asked before a new candidate is started; True = finish what runs.
    """

    def __init__(
        self,
        study: Study,
        trials: Trials,
        executor: Executor,
        ledger: Ledger,
        dense: list[SampleResult],
        on_event: OnEvent,
        stopping: Callable[[], bool],
    ) -> None:
        spec, data = study.spec, study.inputs.calibration
        self._spec, self._data, self._key = spec, data, study.key("calibration")
        self._trials, self._executor, self._ledger = trials, executor, ledger
        self._dense, self._on_event, self._stopping = dense, on_event, stopping
        self._order = race_order(data.size)
        self._looks = looks(data.size) if spec.search.racing else [data.size]
        self._incumbents = Incumbents(spec, data.groups)
        self._incumbents.add("dense", dense, {"prefill_ms": 1.0, "prefill_dense_ms": 1.0})
        self._ended: dict[str, EndedTrial] = {}
        self._counts = dict.fromkeys((*COUNTED, TrialState.FAIL), 0)
        self._running: dict[int, RunningCandidate] = {}
        self._ready: list[RunningCandidate] = []
        self._followers: dict[str, list[Candidate]] = {}
        """Running schedules, with the later trials that drew the same one; they end with it."""
        self._tasks = 0
        self._repeats = 0
        self._exhausted = False
        for trial in trials.all():
            self._take_up(trial)

    def run(self) -> None:
        """Searches until the trials or the minutes are used up, or the space is.

        Raises:
            EvaluationError: too many candidates fail.
            AutopruneError: a bug, with the number of the trial that met it.
        """
        minutes = self._spec.search.minutes
        self._deadline = time.monotonic() + 60 * minutes if minutes else None
        while True:
            while self._executor.free() and (candidate := self._next()):
                self._submit(candidate)
            if self._executor.free() and not self._running:
                return
            for result in self._executor.wait(timeout=1.0):
                self._handle(result)

    def _next(self) -> RunningCandidate | None:
        """A candidate with work to do; those without are ended on the way."""
        if self._ready:
            return self._ready.pop(0)
        while self._may_start():
            candidate, left = self._trials.take(at_random=self._repeats >= _RESTLESS_DRAWS)
            if left and self._spec.workers.count == 0:
                # The worker that died with this trial was the driver itself.
                candidate = self._trials.note_loss(candidate)
            if self._is_repeat(candidate):
                continue
            if candidate.losses > LOSSES_ALLOWED:
                self._fail(candidate, f"{candidate.losses} workers died with it")
                continue
            running = RunningCandidate(candidate, self._known(candidate.schedule))
            self._followers[running.key] = []
            self._repeats = 0
            if not self._is_decided(running):
                return running
        return None

    def _known(self, schedule: Schedule) -> tuple[SampleResult, ...]:
        """What the ledger has of a schedule, from the first row of the race on up to the first gap."""
        known = self._ledger.results(self._key, schedule)
        return tuple(known[row] for row in takewhile(known.__contains__, self._order))

    def _may_start(self) -> bool:
        if self._stopping() or self._exhausted or (self._deadline and time.monotonic() > self._deadline):
            return False
        if self._trials.left_running():
            return True  # a dead driver counted them already
        return self._counted() + len(self._followers) < self._spec.search.trials

    def _counted(self) -> int:
        return sum(self._counts[state] for state in COUNTED)

    def _is_repeat(self, candidate: Candidate) -> bool:
        """Ends a duplicate like the first trial of its schedule, or lets it wait for the one that runs."""
        key = candidate.schedule.key
        first = self._ended.get(key)
        if first is None and key not in self._followers:
            return False
        self._repeats += 1
        if self._repeats >= _EXHAUSTED_DRAWS:
            self._exhausted = True
            self._on_event(
                Event("warning", f"{self._repeats} draws in a row were repeats: the space has no more to give")
            )
        if first is None:
            self._followers[key].append(candidate)
        else:
            self._end_one(candidate, first.as_duplicate())
        return True

    def _submit(self, running: RunningCandidate) -> None:
        self._tasks += 1
        self._running[self._tasks] = running
        candidate, start = running.candidate, len(running.results)
        stop = self._data.size if candidate.origin == "baseline" else next(n for n in self._looks if n > start)
        verb: Verb = "latency" if self._lacks_times(running) else "evaluate"
        rows = tuple(self._order[start:stop])
        self._executor.submit(Task(self._tasks, verb, (candidate.schedule,), "calibration", rows))

    def _lacks_times(self, running: RunningCandidate) -> bool:
        return objectives.is_timed(self._spec) and running.times is None

    def _handle(self, result: TaskResult) -> None:
        running = self._running.pop(result.task.number)
        candidate = running.candidate
        if result.bug is not None:
            raise AutopruneError(
                f"trial {candidate.number} stopped the study: {type(result.bug).__name__}: {result.bug}",
                remedy="this is a bug of autoprune or of the model's code; a resumed study runs the trial again",
            ) from result.bug
        if result.failure:
            self._note_attempt(result, candidate, "failed", result.failure)
            self._fail(candidate, result.failure)
        elif result.lost:
            self._handle_loss(running, result, result.lost)
        else:
            running = self._with_value(running, result)
            if self._is_decided(running):
                self._note_attempt(result, candidate, "done")
            else:
                self._ready.insert(0, running)

    def _handle_loss(self, running: RunningCandidate, result: TaskResult, reason: str) -> None:
        candidate = self._trials.note_loss(running.candidate)
        self._note_attempt(result, candidate, "lost", reason)
        if candidate.losses > LOSSES_ALLOWED:
            self._fail(candidate, f"{candidate.losses} workers died with it; the last one: {reason}")
            return
        self._on_event(Event("warning", f"trial {candidate.number} lost its worker and is tried again: {reason}"))
        self._ready.append(replace(running, candidate=candidate))

    def _note_attempt(self, result: TaskResult, candidate: Candidate, outcome: str, reason: str = "") -> None:
        self._ledger.add_attempt(self._spec.name, candidate.number, result.worker, outcome, reason)

    def _with_value(self, running: RunningCandidate, result: TaskResult) -> RunningCandidate:
        """The candidate with what a task has measured; results of samples are in the ledger from here on."""
        if result.task.verb == "latency":
            return replace(running, times=result.value[0])
        results: list[SampleResult] = result.value[0]
        self._ledger.add(self._key, running.candidate.schedule, results)
        return replace(running, results=(*running.results, *results))

    def _is_decided(self, running: RunningCandidate) -> bool:
        """Whether its samples decide about a candidate; then its trial is complete, or stopped by racing."""
        if self._lacks_times(running):
            return False
        count = len(running.results)
        if count == self._data.size:
            self._complete(running)
            return True
        if count not in self._looks or running.candidate.origin == "baseline":
            return False
        winner = self._incumbents.winner_over(running.results, running.times)
        if winner is None:
            return False
        reason = f"after {count} samples {winner} costs no more and is better with confidence"
        self._end(running.candidate, TrialState.PRUNED, None, self._figures(running, reason))
        return True

    def _complete(self, running: RunningCandidate) -> None:
        values = objectives.values(self._spec, summarise(running.results), running.times)
        self._incumbents.add(f"trial {running.candidate.number}", running.results, running.times)
        self._end(running.candidate, TrialState.COMPLETE, tuple(values), self._figures(running))

    def _figures(self, running: RunningCandidate, reason: str | None = None) -> dict[str, Any]:
        summary = summarise(running.results)
        figures = {row.figure: getattr(summary, row.figure) for row in FIGURES} | {"samples": summary.samples}
        attributes: dict[str, Any] = {MEASURED: {**figures, "latency": running.times, "reason": reason}}
        if self._spec.constraints.max_drop:
            attributes[sampler.CONSTRAINTS] = objectives.violations(self._spec, self._dense, running.results)
        return attributes

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._end(candidate, TrialState.FAIL, None, {MEASURED: {"reason": reason}})
        failed, others = self._counts[TrialState.FAIL], self._counted()
        if (others == 0 and failed >= _FAILURES_AT_START) or (failed + others >= 10 and failed > others):
            raise EvaluationError(
                f"{failed} of {failed + others} candidates failed; the last one, trial {candidate.number}: {reason}",
                remedy="remove the cause; the study resumes where it stopped",
            )

    def _end(
        self, candidate: Candidate, state: TrialState, values: tuple[float, ...] | None, attributes: dict[str, Any]
    ) -> None:
        """Ends a trial and those that drew the same schedule."""
        ended = EndedTrial(candidate.number, state, values, attributes)
        followers = self._followers.pop(candidate.schedule.key, [])
        self._ended[candidate.schedule.key] = ended
        self._counts[state] += 1
        self._end_one(candidate, ended)
        for follower in followers:
            self._end_one(follower, ended.as_duplicate())

    def _end_one(self, candidate: Candidate, ended: EndedTrial) -> None:
        self._trials.end(candidate, ended)
        data = {
            "trial": candidate.number,
            "state": ended.state.name,
            "name": candidate.name,
            "values": ended.values and list(ended.values),
            "reason": ended.reason,
            "duplicate_of": ended.duplicate_of,
            "schedule": candidate.schedule.to_json_dict(),
        }
        message = f"trial {candidate.number} {ended.state.name}" + (f": {ended.reason}" if ended.reason else "")
        self._on_event(Event("trial", message, self._counted(), self._spec.search.trials, data))

    def _take_up(self, trial: FrozenTrial) -> None:
        """Takes up a trial that an earlier run has ended."""
        if not trial.state.is_finished() or not is_distinct(trial):
            return
        schedule = schedule_of(trial)
        self._ended[schedule.key] = ended_of(trial)
        self._counts[trial.state] += 1
        if trial.state == TrialState.COMPLETE:
            results = list(self._ledger.results(self._key, schedule).values())
            self._incumbents.add(f"trial {trial.number}", results, measured_of(trial).get("latency"))
