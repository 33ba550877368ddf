"""The trials of a study in Optuna's tables: queued, begun, ended and taken up again.

Optuna keeps the record; what is tried next is a policy's choice. A trial is queued with its schedule, and with the
parameters that describe it where the space has it; it runs while it is measured, and ends once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from autoprune.schedule import Schedule
from autoprune.search import continuing, objectives, sampler
from autoprune.search.initial import Origin
from autoprune.search.space import SearchSpace
from autoprune.search.spec import StudySpec
from autoprune.search.storage import Database
from autoprune.search.workers.protocol import EngineFacts, Inputs

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
CANDIDATE, MEASURED, DUPLICATE_OF, CONTINUES = "candidate", "measured", "duplicate_of", "continues"
"""User attributes of a trial."""
UNFINISHED = "unfinished"
"""In `MEASURED`, of a trial that ended with the search: it may be taken up again."""
_LOSSES, _ROWS_AT_START = "losses", "rows_at_start"


@dataclass(frozen=True)
class Candidate:
    """A schedule that is tried, and its trial.

    Attributes:
        trial_id: Optuna's key of the trial.
        number: Number of the trial.
        name: For people; empty unless it is a baseline.
        origin: Why it is tried.
        schedule: What is tried.
        losses: Workers that died with it, under this driver and earlier ones.
        rows_at_start: How many of its rows were known when it was last given to this process; None = to none.
    """

    trial_id: int
    number: int
    name: str
    origin: Origin
    schedule: Schedule
    losses: int = 0
    rows_at_start: int | None = None


@dataclass(frozen=True)
class EndedTrial:
    """End of a trial.

    Attributes:
        number: Of the first trial of its schedule.
        state: COMPLETE has values and all rows; PRUNED has none, because part of the rows is not the objective; FAIL
            has none either.
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
    def is_final(self) -> bool:
        """Whether it cannot be taken up again: not so if the search ended before its rows were measured."""
        return not self.attributes.get(MEASURED, {}).get(UNFINISHED, False)


class Trials:
    """Trials of one study; used by the driver's thread alone. Every call may be repeated while the database is away.

    Raises:
        StudyError: the database holds a study of this name with other objectives, space or data.
    """

    def __init__(self, spec: StudySpec, inputs: Inputs, database: Database, space: SearchSpace) -> None:
        sampler.silence_optuna()
        self._spec, self._database, self._space = spec, database, space
        self._storage = database.optuna
        self._study = database.patiently(self._open)
        continuing.refuse_others(spec.name, self._known(), continuing.of_settings(spec))
        self._check_identity(continuing.of_file(spec, inputs))
        found = [t for t in self.all() if t.state == TrialState.WAITING]
        self._queued = {candidate_of(t)["key"]: t for t in found if candidate_of(t)}

    def admitted(self, facts: EngineFacts) -> EngineFacts:
        """Refuses to go on with another model than the trials so far were measured with.

        Returns:
            The facts, as results of this study are addressed: by what prepares its images too, unless it was begun
            before studies noted that.

        Raises:
            StudyError: the model, or how it was loaded, differs from what the database has.
        """
        identity = continuing.of_model(self._spec, facts)
        known = self._known()
        if continuing.FINGERPRINT in known and continuing.PIXELS not in known:
            identity.pop(continuing.PIXELS, None)
        self._check_identity(identity)
        if continuing.PIXELS not in identity:
            return facts
        return replace(facts, metric_version=f"{facts.metric_version}/{identity[continuing.PIXELS]}")

    def _known(self) -> Mapping[str, Any]:
        return self._database.patiently(lambda: self._study.user_attrs)

    def _check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuses what differs from what the database has; notes what it does not have."""
        known = self._known()
        continuing.refuse_others(self._spec.name, known, identity)
        for name, value in identity.items():
            if name not in known:
                self._database.patiently(partial(self._study.set_user_attr, name, value))

    def all(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self._database.patiently(lambda: self._study.get_trials(deepcopy=False))

    def left_running(self) -> list[Candidate]:
        """What a dead driver left running; of trials that repeat another one, the others are ended."""
        firsts: dict[str, int] = {}
        left = []
        for trial in self.all():
            described = candidate_of(trial)
            first = firsts.setdefault(described["key"], trial.number) if described else None
            if trial.state != TrialState.RUNNING:
                continue
            if first == trial.number or trial.user_attrs.get(CONTINUES) is not None:
                left.append(_candidate(trial))
            else:
                reason = "its driver died while it was drawn" if first is None else "a repeat"
                attributes = {MEASURED: {"reason": reason}, DUPLICATE_OF: first}
                self._end(trial._trial_id, trial.number, EndedTrial(trial.number, TrialState.FAIL, None, attributes))
        return left

    def enqueue(self, schedule: Schedule, name: str, origin: Origin, continues: int | None = None) -> Candidate:
        """Queues a candidate; one that is queued already keeps its number.

        Args:
            schedule: What is tried.
            name: For people.
            origin: Why it is tried.
            continues: Trial of the same schedule that an earlier search did not finish.
        """
        known = {"schedule": schedule.to_json_dict(), "key": schedule.key, "name": name, "origin": origin}
        described: dict[str, Any] = {CANDIDATE: known}
        if continues is not None:
            described[CONTINUES] = continues
        params, distributions = self._described(schedule)
        waiting = optuna.trial.create_trial(
            state=TrialState.WAITING, params=params, distributions=distributions, user_attrs=described
        )
        first_try = True

        def once() -> FrozenTrial:
            nonlocal first_try
            if not first_try:  # the connection may have broken after the trial was made
                self._queued |= {candidate_of(t).get("key"): t for t in self._with(TrialState.WAITING)}
            first_try = False
            if schedule.key in self._queued:
                return self._queued.pop(schedule.key)
            return self._storage.get_trial(self._storage.create_new_trial(self._study._study_id, waiting))

        return _candidate(self._database.patiently(once))

    def begin(self, candidate: Candidate) -> None:
        """Marks a queued trial as running."""
        self._database.patiently(
            lambda: self._storage.set_trial_state_values(candidate.trial_id, state=TrialState.RUNNING)
        )

    def note_start(self, candidate: Candidate, rows: int) -> None:
        """Notes before this process itself measures a candidate how many of its rows are known.

        If the process dies with it, no other one is there to notice: a later one finds as many rows as there were.
        """
        self._set(candidate, _ROWS_AT_START, rows)

    def note_loss(self, candidate: Candidate) -> Candidate:
        """Adds one worker that died with the candidate, in the database too, for a later driver."""
        candidate = replace(candidate, losses=candidate.losses + 1)
        self._set(candidate, _LOSSES, candidate.losses)
        return candidate

    def end(self, candidate: Candidate, ended: EndedTrial) -> None:
        """Ends a trial; its attributes are written first, so that no ended trial is without them."""
        self._end(candidate.trial_id, candidate.number, ended)

    def _end(self, trial_id: int, number: int, ended: EndedTrial) -> None:
        def once() -> None:
            # If it is finished already, the tell arrived just before the connection broke.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                for key, value in ended.attributes.items():
                    self._storage.set_trial_user_attr(trial_id, key, value)
                self._study.tell(number, ended.values, state=ended.state)

        self._database.patiently(once)

    def _set(self, candidate: Candidate, name: str, value: Any) -> None:
        self._database.patiently(lambda: self._storage.set_trial_user_attr(candidate.trial_id, name, value))

    def _with(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _open(self) -> optuna.Study:
        wanted = objectives.directions(self._spec)
        with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
            optuna.create_study(study_name=self._spec.name, storage=self._storage, directions=wanted)
        # Nothing is drawn from it, so the sampler has no say.
        return optuna.load_study(
            study_name=self._spec.name, storage=self._storage, sampler=optuna.samplers.RandomSampler()
        )

    def _described(self, schedule: Schedule) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and their distributions; none of a schedule that the space does not hold."""
        params = self._space.params(schedule)
        if params is None:
            return {}, {}
        fixed = FixedTrial(params)
        self._space.suggest(fixed)
        return dict(fixed.params), dict(fixed.distributions)


def resumed(spec: StudySpec, database: Database) -> StudySpec:
    """The study with the space that it began with, where its file leaves the space open."""

    def known() -> Mapping[str, Any]:
        with contextlib.suppress(KeyError):  # it has not begun
            study = database.optuna.get_study_id_from_name(spec.name)
            begun: Mapping[str, Any] = database.optuna.get_study_user_attrs(study).get("space", {})
            return begun
        return {}

    space = database.patiently(known)
    return spec.model_copy(update={"space": spec.space.as_begun(space)}) if space else spec


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


def _candidate(trial: FrozenTrial) -> Candidate:
    described = candidate_of(trial)
    return Candidate(
        trial_id=trial._trial_id,
        number=trial.number,
        name=described["name"],
        origin=described["origin"],
        schedule=schedule_of(trial),
        losses=int(trial.user_attrs.get(_LOSSES, 0)),
        rows_at_start=trial.user_attrs.get(_ROWS_AT_START),
    )
