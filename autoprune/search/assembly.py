"""From the ledger to the front: which trials are points, what each costs and loses, which baselines stand unbeaten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprune import presets
from autoprune.evaluate.objectives import ACCURACY, FLOPS, OBJECTIVES
from autoprune.evaluate.results import SampleResult, Summary, flops_quantiles, summarise
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.schedule.evidence import measured_evidence
from autoprune.search import objectives
from autoprune.search.controls import control_arms
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.importance import importances
from autoprune.search.initial import baseline_name
from autoprune.search.notes import CostSpread, ModelNotes, PrefillTimes, StudyNotes
from autoprune.search.pareto import non_dominated
from autoprune.search.sampler import feasible
from autoprune.search.spec import StudySpec
from autoprune.search.standings import Standings
from autoprune.search.study import DENSE, Measurements, RunFacts, Study
from autoprune.search.trials import candidate_of, is_distinct, measured_of, schedule_of
from autoprune.search.verdicts import RowVerdicts
from autoprune.search.workers.protocol import Split

_SHOWN_DETAILS = ("visual_tokens", "text_tokens", "near_ties", "metric")


def front_trials(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The points: complete trials that keep the study's bounds and that no other such trial dominates."""
    able = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t) and feasible(t)]
    chosen = non_dominated([objectives.minimised(spec, t.values or ()) for t in able])
    return [able[i] for i in chosen]


def baseline_trials(study: Study, trials: Sequence[FrozenTrial]) -> list[tuple[str, FrozenTrial | None]]:
    """Each baseline of the study with its trial, if it has one."""
    by_key = {candidate_of(t).get("key"): t for t in trials if is_distinct(t)}
    listed = [(baseline_name(n), presets.resolve(n, study.inputs.num_layers)) for n in study.spec.baselines]
    return [(name, by_key.get(schedule.key)) for name, schedule in listed if schedule.stages]


def shown_schedules(study: Study, trials: Sequence[FrozenTrial]) -> list[Schedule]:
    """Dense, points and baselines: what is measured on the held-out rows, besides the controls."""
    baselines = [trial for _, trial in baseline_trials(study, trials) if trial and trial.state == TrialState.COMPLETE]
    unique = {t.number: t for t in (*front_trials(study.spec, trials), *baselines)}
    return [DENSE, *map(schedule_of, unique.values())]


def controls_of(study: Study, trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, str, Schedule]]:
    """The control arms of every point."""
    points = front_trials(study.spec, trials)
    return [(t, name, arm) for t in points for name, arm in control_arms(schedule_of(t)).items()]


def assemble(study: Study, trials: Sequence[FrozenTrial], measured: Measurements, run: RunFacts) -> FrontFile:
    """The front of a study; what was not measured on the held-out rows has no `validation`."""
    spec, config = study.spec, study.inputs.config

    def point_of(schedule: Schedule, trial: int | None, name: str) -> Point | None:
        return _point(study, measured, run, schedule, trial, name)

    named_trials = baseline_trials(study, trials)
    names = {trial.number: name for name, trial in named_trials if trial}
    points = [
        point
        for t in front_trials(spec, trials)
        if (point := point_of(schedule_of(t), t.number, names.get(t.number, f"trial {t.number}")))
    ]
    points.sort(key=lambda p: p.flops_ratio)
    baselines = [
        point
        for name, t in named_trials
        if t and t.state == TrialState.COMPLETE and (point := point_of(schedule_of(t), t.number, name))
    ]
    standings = Standings(spec.objectives, points, baselines, lambda split, p: measured.results(split, p.schedule))
    marked = standings.marks()
    points = [p.model_copy(update={"marks": marked.get(p.schedule.key)}) for p in points]
    controls = []
    for trial, name, arm in controls_of(study, trials):
        control = point_of(arm, None, f"{name} of trial {trial.number}")
        if control:
            controls.append(Control(**dict(control), of=trial.number))
    dense = point_of(DENSE, None, "dense")
    assert dense is not None, "a study without its dense reference does not get here"
    identity = ModelIdentity.from_config(config, spec.model_name)
    model = {**identity.model_dump(), "fingerprint": study.facts.fingerprint, "dtype": study.facts.details.get("dtype")}
    notes = {
        **_study(study, trials),
        "presets": standings.verdicts([(name, t.number if t else None) for name, t in named_trials]),
        "verdicts": _row_verdicts(measured, [*points, *baselines]),
        **asdict(run),
    }
    return FrontFile(
        study=StudyNotes.model_validate(notes),
        model=ModelNotes.model_validate(model),
        dense=dense,
        points=tuple(points),
        baselines=tuple(baselines),
        controls=tuple(controls),
    )


def _point(
    study: Study, measured: Measurements, run: RunFacts, schedule: Schedule, trial: int | None, name: str
) -> Point | None:
    dense, mine = measured.results("calibration", DENSE), measured.results("calibration", schedule)
    if dense is None or mine is None:
        return None
    figures = summarise(mine, dense)
    held_dense, held = measured.results("validation", DENSE), measured.results("validation", schedule)
    validation = summarise(held, held_dense) if held_dense and held else None
    stamped = schedule.with_model(study.inputs.config, study.spec.model_name)
    evidence = {**schedule.evidence, **_evidence(study, run, schedule, trial, figures, validation)}
    stamped = Schedule(**{**dict(stamped), "evidence": evidence})
    return Point(
        **dict(figures),
        trial=trial,
        name=name,
        schedule=stamped,
        validation=validation,
        latency=PrefillTimes.model_validate(times) if (times := measured.times.get(schedule.key)) else None,
        spread=_spread(schedule, held or mine),
    )


def _spread(schedule: Schedule, results: Sequence[SampleResult]) -> CostSpread | None:
    """The spread of the cost where the number of tokens depends on scores."""
    adaptive = any(stage.keep.kind in ("mass", "threshold") for stage in schedule.stages)
    return CostSpread.model_validate(flops_quantiles(results)) if adaptive else None


def _evidence(
    study: Study, run: RunFacts, schedule: Schedule, trial: int | None, figures: Summary, validation: Summary | None
) -> dict[str, Any]:
    split: Split = "validation" if validation else "calibration"
    best = validation or figures
    names = (FLOPS.figure, ACCURACY.figure, "drop", "drop_ci", "drop_se")
    return measured_evidence(
        schedule.evidence.get("made_by", "autoprune calibrate"),  # a baseline file says which command chose it
        data=split,
        data_digest=study.splits[split].digest,
        samples=best.samples,
        model_fingerprint=study.facts.fingerprint,
        versions=run.versions,
        study=study.spec.name,
        trial=trial,
        **{name: value for name, value in best.model_dump(mode="json").items() if name in names},
        **{k: v for k, v in study.facts.details.items() if k == "metric"},
    )


def _study(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    spec, facts = study.spec, study.facts
    complete = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t)]
    states = [t.state.name for t in trials if is_distinct(t)]
    return {
        "name": spec.name,
        "objectives": list(spec.objectives),
        "directions": objectives.directions(spec),
        "constraints": spec.constraints.max_drop,
        "trials": [_listed(t) for t in trials],
        "counts": {name: states.count(name) for name in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")},
        "duplicates": len(trials) - len(states),
        "importances": importances(
            spec.objectives,
            objectives.directions(spec),
            [schedule_of(t) for t in complete],
            [t.values or () for t in complete],
        ),
        "convention": facts.convention,
        "seeds": {"sampler": spec.search.seed, "data": spec.data.calibration.seed},
        "data": {
            name: {"path": data.path, "samples": data.size, "digest": data.digest}
            for name, data in study.splits.items()
        },
        **{k: v for k, v in facts.details.items() if k in _SHOWN_DETAILS},
    }


def _row_verdicts(measured: Measurements, points: Sequence[Point]) -> dict[str, RowVerdicts]:
    """Verdicts on the held-out rows of what was measured on all of them; nothing where they are no yes or no."""
    dense = measured.results("validation", DENSE)
    whole = {p.schedule.key: measured.results("validation", p.schedule) for p in points}
    found = RowVerdicts.of(dense, {key: results for key, results in whole.items() if results}) if dense else None
    return {"validation": found} if found else {}


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
