"""From the ledger to the front: which trials are points, what each costs and loses, which baselines stand unbeaten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprune import presets
from autoprune.evaluate.objectives import ACCURACY, FLOPS, OBJECTIVES
from autoprune.evaluate.results import SampleResult, Summary, summarise
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.schedule.evidence import measured_evidence
from autoprune.search import objectives
from autoprune.search.controls import control_arms
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.importance import importances
from autoprune.search.initial import baseline_name
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.pareto import non_dominated
from autoprune.search.sampler import feasible
from autoprune.search.spec import StudySpec
from autoprune.search.trials import candidate_of, is_distinct, measured_of
from autoprune.search.workers.protocol import EngineFacts, Inputs, SplitFacts

_DENSE = Schedule()
_SHOWN_DETAILS = ("visual_tokens", "text_tokens", "near_ties", "metric")


@dataclass
class Found:
    """Everything that a study knows when its front is put together.

    Attributes:
        latencies: Times by schedule key.
        notes: Further keys of ``study`` in the front file.
    """

    spec: StudySpec
    inputs: Inputs
    facts: EngineFacts
    ledger: Ledger
    trials: Sequence[FrozenTrial]
    latencies: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def key(self, split: str) -> DataKey:
        """Address of the results on a data set."""
        return DataKey(self.facts.fingerprint, self.data(split).digest, self.facts.metric_version, split)

    def data(self, split: str) -> SplitFacts:
        """Facts of a data set."""
        facts = self.inputs.calibration if split == "calibration" else self.inputs.validation
        assert facts is not None, "asked only for what the study has"
        return facts

    def results(self, split: str, schedule: Schedule) -> list[SampleResult] | None:
        """All results of a schedule on a data set, or None."""
        if split == "validation" and self.inputs.validation is None:
            return None
        known = self.ledger.results(self.key(split), schedule)
        return known if len(known) == self.data(split).size else None


def front_trials(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The points: complete trials that keep the study's bounds and that no other such trial dominates."""
    able = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t) and feasible(t)]
    chosen = non_dominated([objectives.minimised(spec, t.values or ()) for t in able])
    return [able[i] for i in chosen]


def baseline_trials(found: Found) -> list[tuple[str, FrozenTrial | None]]:
    """Each baseline of the study with its trial, if it has one."""
    by_key = {candidate_of(t).get("key"): t for t in found.trials if is_distinct(t)}
    listed = [(baseline_name(n), presets.resolve(n, found.inputs.num_layers)) for n in found.spec.baselines]
    return [(name, by_key.get(schedule.key)) for name, schedule in listed if schedule.stages]


def schedule_of(trial: FrozenTrial) -> Schedule:
    """The schedule that a trial is about."""
    return Schedule.model_validate(candidate_of(trial)["schedule"])


def shown_schedules(found: Found) -> list[Schedule]:
    """Dense, points and baselines: what is measured on the held-out rows, besides the controls."""
    baselines = [trial for _, trial in baseline_trials(found) if trial and trial.state == TrialState.COMPLETE]
    unique = {t.number: t for t in (*front_trials(found.spec, found.trials), *baselines)}
    return [_DENSE, *map(schedule_of, unique.values())]


def controls_of(found: Found) -> list[tuple[FrozenTrial, str, Schedule]]:
    """The control arms of every point."""
    points = front_trials(found.spec, found.trials)
    return [(t, name, arm) for t in points for name, arm in control_arms(schedule_of(t)).items()]


def assemble(found: Found) -> FrontFile:
    """The front as it is known now; what was not measured on the held-out rows has no `validation`."""
    spec, config = found.spec, found.inputs.config
    names = {trial.number: name for name, trial in baseline_trials(found) if trial}
    points = [
        point
        for t in front_trials(spec, found.trials)
        if (point := _point(found, schedule_of(t), t.number, names.get(t.number, f"trial {t.number}")))
    ]
    points.sort(key=lambda p: p.flops_ratio)
    baselines = [
        point
        for name, t in baseline_trials(found)
        if t and t.state == TrialState.COMPLETE and (point := _point(found, schedule_of(t), t.number, name))
    ]
    controls = []
    for trial, name, arm in controls_of(found):
        control = _point(found, arm, None, f"{name} of trial {trial.number}")
        if control:
            controls.append(Control(**dict(control), of=trial.number))
    dense = _point(found, _DENSE, None, "dense")
    assert dense is not None, "a study without its dense reference does not get here"
    identity = ModelIdentity.from_config(config, spec.model_name)
    model = {**identity.model_dump(), "fingerprint": found.facts.fingerprint, "dtype": found.facts.details.get("dtype")}
    study = {**_study(found), "presets": _verdicts(found, points, baselines), **found.notes}
    return FrontFile(study=study, model=model, dense=dense, points=points, baselines=baselines, controls=controls)


def _point(found: Found, schedule: Schedule, trial: int | None, name: str) -> Point | None:
    dense, mine = found.results("calibration", _DENSE), found.results("calibration", schedule)
    if dense is None or mine is None:
        return None
    figures = summarise(mine, dense)
    held_dense, held = found.results("validation", _DENSE), found.results("validation", schedule)
    validation = summarise(held, held_dense) if held_dense and held else None
    stamped = schedule.with_model(found.inputs.config, found.spec.model_name)
    evidence = {**schedule.evidence, **_evidence(found, schedule, trial, figures, validation)}
    stamped = Schedule(**{**dict(stamped), "evidence": evidence})
    return Point(
        **dict(figures),
        trial=trial,
        name=name,
        schedule=stamped.to_json_dict(),
        validation=validation,
        latency=found.latencies.get(schedule.key),
    )


def _evidence(
    found: Found, schedule: Schedule, trial: int | None, figures: Summary, validation: Summary | None
) -> dict[str, Any]:
    split = "validation" if validation else "calibration"
    best = validation or figures
    names = (FLOPS.figure, ACCURACY.figure, "drop", "drop_ci", "drop_se")
    return measured_evidence(
        schedule.evidence.get("made_by", "autoprune calibrate"),  # a baseline file says which command chose it
        data=split,
        data_digest=found.data(split).digest,
        samples=best.samples,
        model_fingerprint=found.facts.fingerprint,
        versions=found.notes.get("versions", {}),
        study=found.spec.name,
        trial=trial,
        **{name: value for name, value in best.model_dump(mode="json").items() if name in names},
        **{k: v for k, v in found.facts.details.items() if k == "metric"},
    )


def _study(found: Found) -> dict[str, Any]:
    spec = found.spec
    complete = [t for t in found.trials if t.state == TrialState.COMPLETE and is_distinct(t)]
    states = [t.state.name for t in found.trials if is_distinct(t)]
    splits = {"calibration": found.inputs.calibration, "validation": found.inputs.validation}
    return {
        "name": spec.name,
        "objectives": list(spec.objectives),
        "directions": objectives.directions(spec),
        "constraints": spec.constraints.max_drop,
        "trials": [_listed(t) for t in found.trials],
        "counts": {name: states.count(name) for name in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")},
        "duplicates": len(found.trials) - len(states),
        "importances": importances(
            spec.objectives,
            objectives.directions(spec),
            [schedule_of(t) for t in complete],
            [t.values or () for t in complete],
        ),
        "convention": found.facts.convention,
        "seeds": {"sampler": spec.search.seed, "data": spec.data.calibration.seed},
        "data": {
            name: {"path": facts.path, "samples": facts.size, "digest": facts.digest}
            for name, facts in splits.items()
            if facts
        },
        **{k: v for k, v in found.facts.details.items() if k in _SHOWN_DETAILS},
    }


def _listed(trial: FrozenTrial) -> dict[str, Any]:
    known = {**candidate_of(trial), **measured_of(trial), **trial.user_attrs}
    figures = [row.figure for row in OBJECTIVES.values() if row.figure]
    shown = ("origin", "schedule", *figures, "samples", "reason", "duplicate_of")
    name = known.get("name") or f"trial {trial.number}"
    return {
        "trial": trial.number,
        "name": name,
        "state": trial.state.name,
        "values": trial.values,
        **{key: known.get(key) for key in shown},
    }


def _verdicts(found: Found, points: Sequence[Point], baselines: Sequence[Point]) -> list[dict[str, Any]]:
    """Which baselines the front beats: a point that was searched for is cheaper and at least as good.

    Judged on the held-out rows where both were measured there, because those figures are the ones shown.
    """
    by_name = {b.name: b for b in baselines}
    own = {b.trial for b in baselines}
    verdicts = []
    for name, trial in baseline_trials(found):
        baseline = by_name.get(name)
        winner = None
        if baseline is not None:
            winner = next((p for p in points if p.trial not in own and _beats(found.spec, p, baseline)), None)
        verdicts.append(
            {
                "name": name,
                "trial": trial.number if trial else None,
                "beaten": winner is not None,
                "by": winner.trial if winner else None,
            }
        )
    return verdicts


def _beats(spec: StudySpec, point: Point, baseline: Point) -> bool:
    if point.validation and baseline.validation:
        ours, theirs = point.validation, baseline.validation
    else:
        ours, theirs = point, baseline
    quality = OBJECTIVES[spec.qualities[0]]
    lost = quality.lost(getattr(theirs, quality.figure), getattr(ours, quality.figure))
    return ours.flops_ratio < theirs.flops_ratio and lost <= 0
