"""The ends of trials: figures, counts, events, and the rule that stops a study whose candidates fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState

from autoprune.errors import EvaluationError
from autoprune.evaluate.objectives import FIGURES
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.search import objectives, sampler
from autoprune.search.spec import StudySpec
from autoprune.search.trials import COUNTED, MEASURED, UNFINISHED, Candidate, EndedTrial, Trials
from autoprune.search.workers.protocol import Event, OnEvent, Times

_FAILURES_AT_START = 5


class Outcomes:
    """Ends trials and counts them, those of earlier runs included.

    Args:
        dense: The reference on all calibration rows.
    """

    def __init__(self, spec: StudySpec, trials: Trials, dense: Sequence[SampleResult], on_event: OnEvent) -> None:
        self._spec, self._trials, self._dense, self._on_event = spec, trials, dense, on_event
        self._ended: dict[str, EndedTrial] = {}

    def __contains__(self, key: str) -> bool:
        """Whether a trial of this schedule has ended."""
        return key in self._ended

    def number_of(self, key: str) -> int | None:
        """The trial of a schedule that has ended, if one has."""
        return self._ended[key].number if key in self._ended else None

    def counted(self) -> set[str]:
        """Keys of the candidates that count as tried; those that failed do not."""
        return {key for key, ended in self._ended.items() if ended.state in COUNTED}

    def take_up(self, key: str, ended: EndedTrial) -> None:
        """Notes a trial that an earlier run has ended."""
        self._ended[key] = ended

    def end(
        self,
        candidate: Candidate,
        state: TrialState,
        results: Sequence[SampleResult],
        times: Times | None,
        spent: Mapping[str, int | None],
        reason: str | None = None,
        *,
        unfinished: bool = False,
    ) -> None:
        """Ends a trial.

        Args:
            candidate: The trial.
            state: How it ends.
            results: Everything that was measured of it.
            times: The same of its times.
            spent: What the search has spent so far, for whoever shows its progress.
            reason: Why it is not complete.
            unfinished: Whether it may be taken up again by a later search.

        Raises:
            EvaluationError: too many candidates fail.
        """
        values = None
        if state == TrialState.COMPLETE:
            values = tuple(objectives.values(self._spec, summarise(results), times))
        attributes = self._figures(state, results, times, reason)
        if unfinished:
            attributes[MEASURED][UNFINISHED] = True
        ended = EndedTrial(candidate.number, state, values, attributes)
        self._trials.end(candidate, ended)
        self._ended[candidate.schedule.key] = ended
        self._tell(candidate, ended, spent)
        if state == TrialState.FAIL:
            self._check_failures(f"the last one, trial {candidate.number}: {reason}")

    def _figures(
        self, state: TrialState, results: Sequence[SampleResult], times: Times | None, reason: str | None
    ) -> dict[str, Any]:
        """Attributes of an ended trial. Part of the rows gives no quality: the hardest ones may be first."""
        if state == TrialState.FAIL:
            return {MEASURED: {"reason": reason}}
        shown: dict[str, Any] = {"samples": len(results), "latency": times, "reason": reason}
        if state == TrialState.COMPLETE:
            shown |= {row.figure: row.known(results) for row in FIGURES}
        elif results:
            shown |= {row.figure: row.known(results) for row in FIGURES if row.kind == "cost"}
        attributes: dict[str, Any] = {MEASURED: shown}
        if self._spec.constraints.max_drop and state == TrialState.COMPLETE:
            attributes[sampler.CONSTRAINTS] = objectives.violations(self._spec, self._dense, results)
        return attributes

    def _tell(self, candidate: Candidate, ended: EndedTrial, spent: Mapping[str, int | None]) -> None:
        data = {
            "trial": candidate.number,
            "state": ended.state.name,
            "name": candidate.name,
            "values": ended.values and list(ended.values),
            "reason": ended.reason,
            "schedule": candidate.schedule.to_json_dict(),
            **spent,
        }
        message = f"trial {candidate.number} {ended.state.name}" + (f": {ended.reason}" if ended.reason else "")
        rows, budget = spent["row_forwards"], spent["row_budget"]
        done, total = (len(self.counted()), self._spec.search.trials) if budget is None else (rows or 0, budget)
        self._on_event(Event("trial", message, done, total, data))

    def _check_failures(self, last: str) -> None:
        others = len(self.counted())
        failed = len(self._ended) - others
        if (others == 0 and failed >= _FAILURES_AT_START) or (failed + others >= 10 and failed > others):
            raise EvaluationError(
                f"{failed} of {failed + others} candidates failed; {last}",
                remedy="remove the cause; the study resumes where it stopped",
            )
