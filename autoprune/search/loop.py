"""The search loop: candidates out, results in, every trial ended exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import AutopruneError, EvaluationError
from autoprune.evaluate.objectives import FIGURES
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.schedule import Schedule
from autoprune.search import objectives, sampler
from autoprune.search.incumbents import Incumbents
from autoprune.search.ledger import Ledger
from autoprune.search.racing import looks
from autoprune.search.study import Study
from autoprune.search.trials import (
    COUNTED,
    DUPLICATE_OF,
    MEASURED,
    Candidate,
    Trials,
    candidate_of,
    is_distinct,
    measured_of,
)
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Task, TaskResult

LOSSES_ALLOWED = 1
"""Workers that may die with one candidate; with one more it is to blame."""
_FAILURES_AT_START = 5
_RESTLESS_DRAWS, _EXHAUSTED_DRAWS = 5, 100


@dataclass(frozen=True)
class EndedTrial:
    """How the first trial of a schedule ended; its duplicates end alike."""

    number: int
    state: TrialState
    values: list[float] | None
    attributes: dict[str, Any]


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
        self._looks = looks(data.size) if spec.search.racing else [data.size]
        self._incumbents = Incumbents(spec, data.groups)
        self._incumbents.add("dense", dense, {"prefill_ms": 1.0, "prefill_dense_ms": 1.0})
        self._ended: dict[str, EndedTrial] = {}
        self._running: dict[int, Candidate] = {}
        self._by_key: dict[str, Candidate] = {}
        self._ready: list[Candidate] = []
        self._tasks = 0
        self._repeats = 0
        self._exhausted = False
        self._counts = dict.fromkeys((*COUNTED, TrialState.FAIL), 0)
        for trial in trials.all():
            self._remember(trial)

    def run(self) -> None:
        """Searches.

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
            for done in self._executor.wait(timeout=1.0):
                self._handle(done)

    def _next(self) -> Candidate | None:
        """A candidate with work to do; those without are ended on the way."""
        if self._ready:
            return self._ready.pop(0)
        while self._may_start():
            candidate, left = self._trials.take(at_random=self._repeats >= _RESTLESS_DRAWS)
            if left and self._spec.workers.count == 0:
                # The worker that died with this trial was the driver itself.
                self._trials.note_loss(candidate)
            if self._is_repeat(candidate):
                continue
            if candidate.losses > LOSSES_ALLOWED:
                self._fail(candidate, f"{candidate.losses} workers died with it")
                continue
            candidate.results = self._ledger.results(self._key, candidate.schedule)[: self._data.size]
            self._by_key[candidate.schedule.key] = candidate
            self._repeats = 0
            if not self._finish_if_decided(candidate):
                return candidate
        return None

    def _may_start(self) -> bool:
        if self._stopping() or self._exhausted or (self._deadline and time.monotonic() > self._deadline):
            return False
        if self._trials.left_running():
            return True  # a dead driver counted them already
        running = len(self._by_key)
        return sum(self._counts[s] for s in COUNTED) + running < self._spec.search.trials

    def _is_repeat(self, candidate: Candidate) -> bool:
        """Ends a duplicate like the first trial of its schedule, or lets it wait for the one that runs."""
        key = candidate.schedule.key
        first = self._ended.get(key)
        if first is None and key not in self._by_key:
            return False
        self._repeats += 1
        if self._repeats >= _EXHAUSTED_DRAWS:
            self._exhausted = True
            self._on_event(
                Event("warning", f"{self._repeats} draws in a row were repeats: the space has no more to give")
            )
        if first is None:
            self._by_key[key].followers.append(candidate)
        else:
            self._tell_like(candidate, first)
        return True

    def _submit(self, candidate: Candidate) -> None:
        self._tasks += 1
        self._running[self._tasks] = candidate
        needs_time = objectives.is_timed(self._spec) and candidate.latency is None
        start = len(candidate.results)
        stop = self._data.size if candidate.origin == "baseline" else next(n for n in self._looks if n > start)
        verb: Any = "latency" if needs_time else "evaluate"
        self._executor.submit(Task(self._tasks, verb, (candidate.schedule,), "calibration", start, stop))

    def _handle(self, done: TaskResult) -> None:
        candidate = self._running.pop(done.task.number)
        if done.bug is not None:
            raise AutopruneError(
                f"trial {candidate.number} stopped the study: {type(done.bug).__name__}: {done.bug}",
                remedy="this is a bug of autoprune or of the model's code; a resumed study runs the trial again",
            ) from done.bug
        if done.lost:
            self._trials.note_loss(candidate)
            self._note_attempt(done, candidate, "lost", done.lost)
        if done.failure:
            self._note_attempt(done, candidate, "failed", done.failure)
            self._fail(candidate, done.failure)
        elif done.lost and candidate.losses > LOSSES_ALLOWED:
            self._fail(candidate, f"{candidate.losses} workers died with it; the last one: {done.lost}")
        elif done.lost:
            self._on_event(
                Event("warning", f"trial {candidate.number} lost its worker and is tried again: {done.lost}")
            )
            self._ready.append(candidate)
        else:
            self._add(candidate, done)
            if self._finish_if_decided(candidate):
                self._note_attempt(done, candidate, "done")
            else:
                self._ready.insert(0, candidate)

    def _note_attempt(self, done: TaskResult, candidate: Candidate, outcome: str, reason: str = "") -> None:
        self._ledger.add_attempt(self._spec.name, candidate.number, done.worker, outcome, reason)

    def _add(self, candidate: Candidate, done: TaskResult) -> None:
        if done.task.verb == "latency":
            candidate.latency = done.value[0]
        else:
            results: list[SampleResult] = done.value[0]
            self._ledger.add(self._key, candidate.schedule, len(candidate.results), results)
            candidate.results += results

    def _finish_if_decided(self, candidate: Candidate) -> bool:
        """Completes or stops a candidate if its samples say so."""
        if objectives.is_timed(self._spec) and candidate.latency is None:
            return False
        count = len(candidate.results)
        if count == self._data.size:
            self._complete(candidate)
            return True
        if count not in self._looks or candidate.origin == "baseline":
            return False
        winner = self._incumbents.winner_over(candidate.results, candidate.latency)
        if winner is None:
            return False
        reason = f"after {count} samples {winner} costs no more and is better with confidence"
        self._end(candidate, TrialState.PRUNED, None, self._measured(candidate, reason))
        return True

    def _complete(self, candidate: Candidate) -> None:
        values = objectives.values(self._spec, summarise(candidate.results), candidate.latency)
        self._incumbents.add(f"trial {candidate.number}", candidate.results, candidate.latency)
        self._end(candidate, TrialState.COMPLETE, values, self._measured(candidate))

    def _measured(self, candidate: Candidate, reason: str | None = None) -> dict[str, Any]:
        summary = summarise(candidate.results)
        figures = {row.figure: getattr(summary, row.figure) for row in FIGURES} | {"samples": summary.samples}
        attributes: dict[str, Any] = {MEASURED: {**figures, "latency": candidate.latency, "reason": reason}}
        if self._spec.constraints.max_drop:
            attributes[sampler.CONSTRAINTS] = objectives.violations(self._spec, self._dense, candidate.results)
        return attributes

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._end(candidate, TrialState.FAIL, None, {MEASURED: {"reason": reason}})
        failed, others = self._counts[TrialState.FAIL], sum(self._counts[s] for s in COUNTED)
        if (others == 0 and failed >= _FAILURES_AT_START) or (failed + others >= 10 and failed > others):
            raise EvaluationError(
                f"{failed} of {failed + others} candidates failed; the last one, trial {candidate.number}: {reason}",
                remedy="remove the cause; the study resumes where it stopped",
            )

    def _end(
        self, candidate: Candidate, state: TrialState, values: list[float] | None, attributes: dict[str, Any]
    ) -> None:
        ended = EndedTrial(candidate.number, state, values, attributes)
        self._ended[candidate.schedule.key] = ended
        self._by_key.pop(candidate.schedule.key, None)
        self._counts[state] += 1
        self._tell(candidate, ended, attributes)
        for follower in candidate.followers:
            self._tell_like(follower, ended)

    def _tell_like(self, duplicate: Candidate, first: EndedTrial) -> None:
        self._tell(duplicate, first, {**first.attributes, DUPLICATE_OF: first.number})

    def _tell(self, candidate: Candidate, ended: EndedTrial, attributes: dict[str, Any]) -> None:
        if ended.state == TrialState.COMPLETE and ended.values is not None:
            self._trials.complete(candidate, ended.values, attributes)
        elif ended.state == TrialState.PRUNED:
            self._trials.prune(candidate, attributes)
        else:
            self._trials.fail(candidate, attributes)
        state, reason = ended.state.name, attributes[MEASURED].get("reason")
        data = {
            "trial": candidate.number,
            "state": state,
            "name": candidate.name,
            "values": ended.values,
            "reason": reason,
            "duplicate_of": attributes.get(DUPLICATE_OF),
            "schedule": candidate.schedule.to_json_dict(),
        }
        done = sum(self._counts[s] for s in COUNTED)
        message = f"trial {candidate.number} {state}" + (f": {reason}" if reason else "")
        self._on_event(Event("trial", message, done, self._spec.search.trials, data))

    def _remember(self, trial: FrozenTrial) -> None:
        """Takes up a trial that an earlier run has ended."""
        if not trial.state.is_finished() or not is_distinct(trial):
            return
        key = candidate_of(trial)["key"]
        self._ended[key] = EndedTrial(trial.number, trial.state, trial.values, _reported(trial))
        self._counts[trial.state] += 1
        if trial.state == TrialState.COMPLETE:
            results = self._ledger.results(self._key, Schedule.model_validate(candidate_of(trial)["schedule"]))
            self._incumbents.add(f"trial {trial.number}", results, measured_of(trial).get("latency"))


def _reported(trial: FrozenTrial) -> dict[str, Any]:
    return {name: value for name, value in trial.user_attrs.items() if name in (MEASURED, sampler.CONSTRAINTS)}
