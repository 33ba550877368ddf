"""The trials of a study in Optuna's tables: drawn, ended, queued and taken up again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from autoprune.errors import StudyError
from autoprune.evaluate.metrics import EXACT_MATCH, load_metric
from autoprune.schedule import Schedule
from autoprune.search import objectives, sampler
from autoprune.search.initial import InitialSchedule, Origin
from autoprune.search.space import SearchSpace
from autoprune.search.spec import StudySpec
from autoprune.search.storage import Database
from autoprune.search.workers.protocol import Inputs

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
CANDIDATE, MEASURED, DUPLICATE_OF = "candidate", "measured", "duplicate_of"
"""User attributes of a trial."""


@dataclass(frozen=True)
class Candidate:
    """A running trial and its schedule.

    Attributes:
        trial: Optuna's handle.
        number: Number of the trial.
        name: For people; empty unless it is a baseline.
        origin: Why it is tried.
        schedule: What is tried.
        losses: Workers that died with it, under this driver and earlier ones.
    """

    trial: Trial
    number: int
    name: str
    origin: Origin
    schedule: Schedule
    losses: int = 0


@dataclass(frozen=True)
class EndedTrial:
    """End of a trial.

    Attributes:
        number: Of the first trial of its schedule.
        state: COMPLETE has values and all samples; PRUNED (stopped by racing) has none, because part of the samples is
            not the objective; FAIL has none either.
        values: Of the objectives, in the order of the study file.
        attributes: Figures and the reason, as the database has them.
    """

    number: int
    state: TrialState
    values: tuple[float, ...] | None
    attributes: Mapping[str, Any]

    @property
    def reason(self) -> str | None:
        """Reason why the trial did not complete."""
        reason: str | None = self.attributes.get(MEASURED, {}).get("reason")
        return reason

    @property
    def duplicate_of(self) -> int | None:
        """The first trial of its schedule, if it is not the first itself."""
        return self.attributes.get(DUPLICATE_OF)

    def as_duplicate(self) -> EndedTrial:
        """The same end for another trial of the same schedule."""
        return replace(self, attributes={**self.attributes, DUPLICATE_OF: self.number})


class Trials:
    """Trials of one study; used by the driver's thread alone. Every call may be repeated while the database is away.

    Raises:
        StudyError: the database holds a study of this name with other objectives, space or data.
    """

    def __init__(self, spec: StudySpec, inputs: Inputs, database: Database, space: SearchSpace) -> None:
        sampler.silence_optuna()
        self._spec, self._database, self._space = spec, database, space
        self._taken: set[int] = set()
        self._may_be_left = True
        self._study = database.patiently(self._open)
        self._check_identity(_identity(spec, inputs))
        self._samplers = [
            sampler.make_sampler(kind, spec.search.seed, len(self.all()), bool(spec.constraints.max_drop))
            for kind in (spec.search.sampler, "random")
        ]

    def check_model(self, fingerprint: str) -> None:
        """Refuses to go on with another model than the trials so far were measured with.

        Raises:
            StudyError: its fingerprint differs from the one in the database.
        """
        self._check_identity({"model_fingerprint": fingerprint})

    def _check_identity(self, identity: dict[str, Any]) -> None:
        """Refuses what differs from what the database has; notes what it does not have."""
        known = self._database.patiently(lambda: self._study.user_attrs)
        for name, value in identity.items():
            if name in known and known[name] != value:
                raise StudyError(
                    f"the study {self._spec.name!r} in this database was made with another {name}",
                    field=name,
                    remedy="choose another name or output, or restore what it was",
                )
        for name, value in identity.items():
            if name not in known:
                self._database.patiently(partial(self._study.set_user_attr, name, value))

    def all(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self._database.patiently(lambda: self._study.get_trials(deepcopy=False))

    def enqueue(self, initial: Sequence[InitialSchedule]) -> None:
        """Queues the candidates that the study does not have yet."""

        def once() -> None:
            known = {candidate_of(t).get("key") for t in self._study.get_trials(deepcopy=False)}
            for candidate in initial:
                if candidate.schedule.key not in known:
                    described = {CANDIDATE: _described(candidate.schedule, candidate.name, candidate.origin)}
                    self._study.enqueue_trial(self._space.params(candidate.schedule) or {}, user_attrs=described)

        self._database.patiently(once)

    def take(self, *, at_random: bool) -> tuple[Candidate, bool]:
        """The next candidate: one that a dead driver left running, else the next in the queue, else a new draw.

        Args:
            at_random: Draw without the sampler, which has fallen into repeating itself.

        Returns:
            The candidate, and whether it was left running.
        """
        self._study.sampler = self._samplers[1 if at_random else 0]
        trial, left = self._database.patiently(self._next)
        self._taken.add(trial.number)
        self._may_be_left = left
        return self._database.patiently(lambda: self._candidate(trial)), left

    def left_running(self) -> bool:
        """Whether there are trials that a dead driver left running."""
        return self._may_be_left and self._database.patiently(lambda: bool(self._left()))

    def note_loss(self, candidate: Candidate) -> Candidate:
        """Adds one worker that died with the candidate, in the database too, for a later driver."""
        candidate = replace(candidate, losses=candidate.losses + 1)
        self._database.patiently(partial(candidate.trial.set_user_attr, "losses", candidate.losses))
        return candidate

    def end(self, candidate: Candidate, ended: EndedTrial) -> None:
        """Ends a trial; its attributes are written first, so that no ended trial is without them."""

        def once() -> None:
            # If it is finished already, the tell arrived just before the connection broke.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                for key, value in ended.attributes.items():
                    candidate.trial.set_user_attr(key, value)
                self._study.tell(candidate.trial, ended.values, state=ended.state)

        self._database.patiently(once)

    def _open(self) -> optuna.Study:
        wanted = objectives.directions(self._spec)
        with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
            optuna.create_study(study_name=self._spec.name, storage=self._database.optuna, directions=wanted)
        return optuna.load_study(study_name=self._spec.name, storage=self._database.optuna)

    def _next(self) -> tuple[Trial, bool]:
        if self._may_be_left and (left := self._left()):
            return Trial(self._study, left[0]._trial_id), True
        self._may_be_left = True  # stays so if the connection breaks after the trial was made
        return self._study.ask(), False

    def _left(self) -> list[FrozenTrial]:
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [t for t in running if t.number not in self._taken]

    def _candidate(self, trial: Trial) -> Candidate:
        attributes = trial.user_attrs
        known = attributes.get(CANDIDATE, {})
        origin: Origin = known.get("origin", "sampler")
        if known:
            schedule = Schedule.model_validate(known["schedule"])
            if self._space.params(schedule) is not None:
                self._space.suggest(trial)  # the sampler learns from parameters; they are fixed by the queue
            name = known["name"]
        else:
            schedule, name = self._space.suggest(trial), ""
            trial.set_user_attr(CANDIDATE, _described(schedule, name, origin))
        return Candidate(trial, trial.number, name, origin, schedule, losses=int(attributes.get("losses", 0)))


def _identity(spec: StudySpec, inputs: Inputs) -> dict[str, Any]:
    """Identity that every trial of a study shares, besides the model."""
    identity: dict[str, Any] = {
        "objectives": [*spec.objectives, *_judged_by(spec)],
        "space": spec.space.identity(),
        "calibration": inputs.calibration.digest,
    }
    if spec.storage is not None:  # two drivers must not share a study; the lock guards one folder only
        identity["output"] = spec.output
    return identity


def _judged_by(spec: StudySpec) -> list[str]:
    """The metric, if it is one of another package; the default adds nothing, as before there were others."""
    metric = load_metric(spec.metric)
    return [f"metric {metric.name}@{metric.version}"] if metric != EXACT_MATCH else []


def is_distinct(trial: FrozenTrial) -> bool:
    """Whether a trial was the first of its schedule."""
    return DUPLICATE_OF not in trial.user_attrs


def candidate_of(trial: FrozenTrial) -> dict[str, Any]:
    """``schedule``, ``key``, ``name`` and ``origin`` of a trial; empty if its driver died while it was drawn."""
    described: dict[str, Any] = trial.user_attrs.get(CANDIDATE, {})
    return described


def ended_of(trial: FrozenTrial) -> EndedTrial:
    """End of a finished trial."""
    attributes = {name: value for name, value in trial.user_attrs.items() if name in (MEASURED, sampler.CONSTRAINTS)}
    return EndedTrial(trial.number, trial.state, tuple(trial.values) if trial.values else None, attributes)


def schedule_of(trial: FrozenTrial) -> Schedule:
    """The schedule that a trial is about."""
    return Schedule.model_validate(candidate_of(trial)["schedule"])


def measured_of(trial: FrozenTrial) -> dict[str, Any]:
    """The figures of a finished trial, and the reason if it did not complete."""
    measured: dict[str, Any] = trial.user_attrs.get(MEASURED, {})
    return measured


def _described(schedule: Schedule, name: str, origin: Origin) -> dict[str, Any]:
    return {"schedule": schedule.to_json_dict(), "key": schedule.key, "name": name, "origin": origin}
