"""The search loop: runs on workers what a policy asks for, and ends every trial exactly once.

The policy decides what is measured next; the loop asks it, looks up what the ledger has, gives the rest to workers,
writes results down and tells the policy. A candidate whose rows were begun stays a running trial until all of them are
known, until a measured point beats it with confidence, or until the search ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from optuna.trial import TrialState

from autoprune.errors import AutopruneError
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search import objectives
from autoprune.search.batches import Offer, next_batch
from autoprune.search.budget import Budget
from autoprune.search.incumbents import Incumbents
from autoprune.search.ledger import Ledger
from autoprune.search.outcomes import Outcomes
from autoprune.search.policy.protocol import Policy, Proposal
from autoprune.search.study import Study
from autoprune.search.trials import Candidate, Trials, candidate_of, ended_of, is_distinct, measured_of, schedule_of
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Task, TaskResult, Times, Verb

LOSSES_ALLOWED = 1
"""Workers that may die with one candidate; with one more it is to blame."""
_LOOK_AHEAD = 16  # initial schedules from which batches are chosen; what is drawn is asked for one by one


@dataclass(frozen=True)
class OpenCandidate:
    """A candidate that has not ended, with what is known of it.

    Attributes:
        candidate: The candidate and its trial.
        results: By row.
        times: Measured times, where the study asks for them.
        looked: Rows that it had when it was last compared with the incumbents.
        is_running: Whether its trial runs; else it is queued.
    """

    candidate: Candidate
    results: Mapping[int, SampleResult] = field(default_factory=dict)
    times: Times | None = None
    looked: int = 0
    is_running: bool = False

    @property
    def schedule(self) -> Schedule:
        """What is tried."""
        return self.candidate.schedule


class SearchLoop:
    """Runs the candidates of a policy on an executor.

    Args:
        policy: What to measure next; it is told everything that earlier runs have measured.
        initial: Keys of the schedules that are measured whatever is found out; they are asked for in advance.
        dense: The reference on all calibration rows.
        stopping: Asked before a task is started; True = finish what runs.
    """

    def __init__(
        self,
        study: Study,
        policy: Policy,
        initial: Sequence[str],
        trials: Trials,
        executor: Executor,
        ledger: Ledger,
        dense: Sequence[SampleResult],
        on_event: OnEvent,
        stopping: Callable[[], bool],
    ) -> None:
        spec, data = study.spec, study.inputs.calibration
        self._spec, self._size, self._key = spec, data.size, study.key("calibration")
        self._policy, self._unasked = policy, set(initial)
        self._trials, self._executor, self._ledger = trials, executor, ledger
        self._dense = {result.index: result for result in dense}
        self._on_event, self._stopping = on_event, stopping
        self._incumbents = Incumbents(spec, data.groups)
        self._incumbents.add("dense", dense, {"prefill_ms": 1.0, "prefill_dense_ms": 1.0})
        self._budget = Budget.of(spec.search)
        self._outcomes = Outcomes(spec, trials, dense, on_event)
        self._open: dict[str, OpenCandidate] = {}
        self._offers: list[Offer] = []
        self._again: list[tuple[Offer, ...]] = []
        self._running: dict[int, tuple[Offer, ...]] = {}
        self._tasks = 0
        self._idle = self._exhausted = self._is_full = False
        """Whether the policy is asked again only once it is told something, whether it had nothing left, and whether
        the budget has no room for a new candidate, so that only those that were begun are finished."""
        self._take_up()

    def run(self) -> None:
        """Searches until the budget is used up, or the policy has nothing more.

        Raises:
            EvaluationError: too many candidates fail.
            AutopruneError: a bug, with the number of the trial that met it.
        """
        while True:
            while self._executor.free() and (batch := self._next_batch()):
                self._submit(batch)
            if self._executor.free() and not self._running:
                break
            for result in self._executor.wait(timeout=1.0):
                self._handle(self._running.pop(result.task.number), result)
        if self._exhausted and not self._stopping():
            self._warn(f"the space has no more to give: {self._tried()} distinct candidates were tried")
        for key, one in list(self._open.items()):
            if one.is_running:
                reason = f"the search ended after {len(one.results)} of {self._size} rows; others were worth more"
                self._end(key, TrialState.PRUNED, reason, unfinished=True)

    def _next_batch(self) -> tuple[Offer, ...] | None:
        """Candidates for one worker."""
        if self._stopping():
            return None
        if self._again:
            return self._again.pop(0)
        while not self._offers or (self._unasked and len(self._offers) < _LOOK_AHEAD):
            if (offer := self._ask()) is None:
                break
            self._offers.append(offer)
        if not self._offers:
            return None
        batch = next_batch(self._offers, max(1, self._spec.workers.count))
        self._offers = [offer for offer in self._offers if offer not in batch]
        return batch

    def _ask(self) -> Offer | None:
        """What the policy wants measured next and the ledger does not have; None if there is nothing for now."""
        while not self._idle and not self._budget.is_over():
            full = self._is_full or self._tried() >= self._budget.trials
            if full and not self._tasks and not self._open:
                return None  # an earlier run came to this end
            proposal = self._policy.ask(begun_only=full)
            self._idle = proposal is None
            self._exhausted = self._idle and not full
            if proposal is not None and (offer := self._offered(proposal)):
                return offer
        return None

    def _offered(self, proposal: Proposal) -> Offer | None:
        """The rows of a proposal that are not known; None if the budget does not allow them or there are none."""
        key = proposal.schedule.key
        self._unasked = self._unasked - {key} if proposal.origin != "sampler" else set()
        known = self._open[key].results if key in self._open else self._ledger.results(self._key, proposal.schedule)
        wanted = proposal.rows if self._spec.search.racing else range(self._size)
        rows = tuple(row for row in wanted if row not in known)
        new = key not in self._open and key not in self._outcomes
        if not self._budget.allows(len(rows), self._tried() + new):
            self._is_full = True
            self._policy.fail(proposal.schedule)
            return None
        if key not in self._open:
            earlier = self._outcomes.number_of(key)
            candidate = self._trials.enqueue(proposal.schedule, proposal.name, proposal.origin, continues=earlier)
            if new:
                self._open[key] = OpenCandidate(candidate)
                self._budget.spent += len(known)
                self._learn(key, known)
            else:  # the policy was told already
                self._open[key] = OpenCandidate(candidate, known, looked=len(known))
            if key not in self._open:
                return None
        self._budget.spent += len(rows)
        candidate = self._open[key].candidate
        offer = Offer(proposal.schedule, rows, candidate.origin, alone=candidate.losses > 0)
        return offer if rows or self._lacks_times(offer) else None

    def _tried(self) -> int:
        return len(self._open.keys() | self._outcomes.counted())

    def _submit(self, batch: tuple[Offer, ...]) -> None:
        self._tasks += 1
        self._running[self._tasks] = batch
        for offer in batch:
            one = self._begun(offer.schedule.key)
            if self._spec.workers.count == 0:
                self._trials.note_start(one.candidate, len(one.results))
        schedules = tuple(offer.schedule for offer in batch)
        verb: Verb = "latency" if any(map(self._lacks_times, batch)) else "evaluate"
        self._executor.submit(Task(self._tasks, verb, schedules, "calibration", batch[0].rows))

    def _begun(self, key: str) -> OpenCandidate:
        """The candidate, its trial running."""
        one = self._open[key]
        if not one.is_running:
            self._trials.begin(one.candidate)
            one = self._open[key] = replace(one, is_running=True)
        return one

    def _lacks_times(self, offer: Offer) -> bool:
        return objectives.is_timed(self._spec) and self._open[offer.schedule.key].times is None

    def _handle(self, batch: tuple[Offer, ...], result: TaskResult) -> None:
        reason = result.failure or result.lost or (str(result.bug) if result.bug else "")
        if result.value is None and len(batch) > 1:
            # One of them spoils it for all.
            for offer in batch:
                self._note_attempt(result, offer, "split", reason)
            self._again = [(replace(offer, alone=True),) for offer in batch] + self._again
        elif result.value is None:
            self._handle_failure(batch[0], result, reason)
        elif result.task.verb == "latency":
            for offer, times in zip(batch, result.value, strict=True):
                key = offer.schedule.key
                self._open[key] = replace(self._open[key], times=times)
            if batch[0].rows:
                self._again.insert(0, batch)
            else:
                for offer in batch:
                    self._learn(offer.schedule.key, {})
        else:
            for offer, results in zip(batch, result.value, strict=True):
                self._note_attempt(result, offer, "done")
                self._ledger.add(self._key, offer.schedule, results)
                self._learn(offer.schedule.key, {r.index: r for r in results})
            if self._budget.rows is not None:
                self._on_event(Event("progress", "rows", self._budget.spent, self._budget.rows))

    def _handle_failure(self, offer: Offer, result: TaskResult, reason: str) -> None:
        key = offer.schedule.key
        candidate = self._open[key].candidate
        if result.bug is not None:
            what = f"trial {candidate.number} stopped the study"
            raise stopping_error(result.bug, what, "a resumed study runs the trial again") from result.bug
        self._note_attempt(result, offer, "failed" if result.failure else "lost", reason)
        if result.failure:
            self._fail(key, reason)
        else:
            self._charge(key, f"the last one: {reason}")
            if key in self._open:
                self._again.append((replace(offer, alone=True),))
                self._warn(f"trial {candidate.number} lost its worker and is tried again: {reason}")

    def _charge(self, key: str, reason: str) -> None:
        """Notes that a worker died with a candidate; with one too many it has failed."""
        one = self._open[key]
        candidate = self._trials.note_loss(one.candidate)
        self._open[key] = replace(one, candidate=candidate)
        if candidate.losses > LOSSES_ALLOWED:
            self._fail(key, f"{candidate.losses} workers died with it; {reason}")

    def _note_attempt(self, result: TaskResult, offer: Offer, outcome: str, reason: str = "") -> None:
        number = self._open[offer.schedule.key].candidate.number
        self._ledger.add_attempt(self._spec.name, number, result.worker, outcome, reason)

    def _learn(self, key: str, results: Mapping[int, SampleResult]) -> None:
        """Takes up results of a candidate, tells the policy, and ends the candidate if they decide about it."""
        one = self._open[key]
        one = self._open[key] = replace(one, results={**one.results, **results})
        if results:
            self._tell(one.schedule, list(results.values()), one.times)
        if len(one.results) == self._size:
            if one.times is not None or not objectives.is_timed(self._spec):
                self._end(key, TrialState.COMPLETE)
        elif self._spec.search.racing and one.candidate.origin != "baseline" and results:
            winner = self._incumbents.winner_over(list(one.results.values()), one.times, one.looked)
            self._open[key] = replace(one, looked=len(one.results))
            if winner is not None:
                self._policy.fail(one.schedule)
                reason = f"after {len(one.results)} rows {winner} costs no more and is better with confidence"
                self._end(key, TrialState.PRUNED, reason)

    def _tell(self, schedule: Schedule, results: Sequence[SampleResult], times: Times | None) -> None:
        losses = objectives.losses(self._spec, self._dense, results)
        self._policy.tell(schedule, losses, objectives.costs(self._spec, results, times))
        self._idle = False

    def _fail(self, key: str, reason: str) -> None:
        self._policy.fail(self._open[key].schedule)
        self._idle = False
        self._end(key, TrialState.FAIL, reason)

    def _end(self, key: str, state: TrialState, reason: str | None = None, *, unfinished: bool = False) -> None:
        one = self._begun(key)
        del self._open[key]
        results = list(one.results.values())
        if state == TrialState.COMPLETE:
            self._incumbents.add(f"trial {one.candidate.number}", results, one.times)
        spent = {"row_forwards": self._budget.spent, "row_budget": self._budget.rows}
        self._outcomes.end(one.candidate, state, results, one.times, spent, reason, unfinished=unfinished)

    def _warn(self, message: str) -> None:
        self._on_event(Event("warning", message))

    def _take_up(self) -> None:
        """Takes up what earlier runs have measured, and what a dead driver left running."""
        finished = [t for t in self._trials.all() if t.state.is_finished() and is_distinct(t)]
        for trial in {candidate_of(t)["key"]: t for t in finished}.values():
            schedule, ended, times = schedule_of(trial), ended_of(trial), measured_of(trial).get("latency")
            self._outcomes.take_up(schedule.key, ended)
            self._unasked.discard(schedule.key)
            results = list(self._ledger.results(self._key, schedule).values())
            self._budget.spent += len(results)
            if results:
                self._tell(schedule, results, times)
            if trial.state == TrialState.COMPLETE:
                self._incumbents.add(f"trial {trial.number}", results, times)
            elif ended.is_final:
                self._policy.fail(schedule)
        for candidate in self._trials.left_running():
            self._resume(candidate)

    def _resume(self, candidate: Candidate) -> None:
        """Takes up a candidate that a dead driver left running."""
        key, known = candidate.schedule.key, self._ledger.results(self._key, candidate.schedule)
        self._open[key] = OpenCandidate(candidate, looked=len(known), is_running=True)
        self._budget.spent += len(known)
        if self._spec.workers.count == 0 and candidate.rows_at_start in (None, len(known)):
            # The worker that died with this trial was the driver itself.
            self._charge(key, "the last one was this process")
        elif candidate.losses > LOSSES_ALLOWED:
            self._fail(key, f"{candidate.losses} workers died with it")
        if key in self._open:
            self._learn(key, known)


def stopping_error(cause: BaseException, what: str, kept: str) -> AutopruneError:
    """Error that ends a study, for a cause that no candidate can be blamed for.

    Args:
        cause: What a worker raised.
        what: Was being done.
        kept: What of it is kept.
    """
    if isinstance(cause, OSError) and cause.filename:
        remedy = f"put it back, or make it readable; {kept}"
        return AutopruneError(f"{what}: {cause.strerror}: {cause.filename}", remedy=remedy)
    remedy = f"this is a bug of autoprune or of the model's code; {kept}"
    return AutopruneError(f"{what}: {type(cause).__name__}: {cause}", remedy=remedy)
