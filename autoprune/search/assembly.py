"""From the ledger to the front: which trials are points, what each costs and loses, which baselines stand unbeaten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autoprune.evaluate.objectives import ACCURACY, FLOPS, OBJECTIVES
from autoprune.evaluate.results import SampleResult, Summary, flops_quantiles, summarise
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.schedule.evidence import measured_evidence
from autoprune.search import objectives
from autoprune.search.controls import ArmResult
from autoprune.search.finalists import anchor_trials, baseline_trials, front_trials, left_out_because, near_dense
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.importance import importances
from autoprune.search.notes import CostSpread, ModelNotes, PrefillTimes, StudyNotes
from autoprune.search.standings import Standings
from autoprune.search.study import DENSE, Measurements, RunFacts, Study
from autoprune.search.trials import candidate_of, is_distinct, measured_of, schedule_of
from autoprune.search.verdicts import RowVerdicts
from autoprune.search.workers.protocol import Split
from autoprune.sources import cached_commit

_SHOWN_DETAILS = ("visual_tokens", "text_tokens", "near_ties", "by_generating", "metric")


def assemble(study: Study, trials: Sequence[FrozenTrial], measured: Measurements, run: RunFacts) -> FrontFile:
    """The front of a study; what was not measured on the held-out rows has no `validation`."""
    spec, config = study.spec, study.inputs.config

    def point_of(schedule: Schedule, trial: int | None, name: str) -> Point | None:
        return _point(study, measured, run, schedule, trial, name)

    named_trials = baseline_trials(study, trials)
    names = {trial.number: name for name, trial in named_trials if trial}
    left_out = _left_out(study, trials, measured)
    points = [
        point if point.validation else point.model_copy(update={"left_out": left_out.get(t.number)})
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
    anchors = [
        point
        for t in anchor_trials(spec, measured.results("calibration", DENSE) or (), trials)
        if (point := point_of(schedule_of(t), t.number, names.get(t.number, f"trial {t.number}")))
    ]
    controls = [_control(study, measured, result) for result in measured.arms]
    dense = point_of(DENSE, None, "dense")
    assert dense is not None, "a study without its dense reference does not get here"
    identity = ModelIdentity.from_config(config, spec.model_name)
    told = {name: study.facts.details.get(name) for name in ("dtype", "pixels")}
    model = {**identity.model_dump(), "fingerprint": study.facts.fingerprint, **told}
    notes = {
        **_study(study, trials),
        "presets": standings.verdicts([(name, t.number if t else None) for name, t in named_trials]),
        "left_out": [lost._asdict() for lost in study.scope.left_out],
        "verdicts": _row_verdicts(measured, [*points, *anchors, *baselines]),
        **asdict(run),
    }
    return FrontFile(
        study=StudyNotes.model_validate(notes),
        model=ModelNotes.model_validate(model),
        dense=dense,
        points=tuple(points),
        baselines=tuple(baselines),
        controls=tuple(controls),
        anchors=tuple(anchors),
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


def _left_out(study: Study, trials: Sequence[FrozenTrial], measured: Measurements) -> dict[int, str]:
    """Points that are too far from dense for held-out rows, by trial: why."""
    dense = measured.results("calibration", DENSE)
    if dense is None or "validation" not in study.splits:
        return {}
    near = {t.number for t in near_dense(study.spec, dense, trials)}
    far = [t for t in front_trials(study.spec, trials) if t.number not in near]
    return {t.number: left_out_because(study.spec, dense, t) for t in far}


def _control(study: Study, measured: Measurements, result: ArmResult) -> Control:
    """A control arm with the figures of the rows that it was measured on, drops against dense on the same rows."""
    arm, split = result.arm, measured.arms_on
    figures = summarise(result.results, measured.results(split, DENSE) or ())
    held_out = split == "validation" and figures.samples == study.splits[split].size
    return Control(
        **dict(figures),
        trial=None,
        name=f"{arm.name} of trial {arm.of}",
        schedule=arm.schedule.with_model(study.inputs.config, study.spec.model_name),
        validation=figures if held_out else None,
        of=arm.of,
        measured_on=split,
        mark=result.mark,
    )


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
        calibration_samples=figures.samples,
        model_fingerprint=study.facts.fingerprint,
        versions=run.versions,
        study=study.spec.name,
        trial=trial,
        max_new_tokens=study.spec.evaluation.max_new_tokens,
        **_model_revision(study),
        **_measured_in(study),
        **{name: value for name, value in best.model_dump(mode="json").items() if name in names},
        **{k: v for k, v in study.facts.details.items() if k == "metric"},
    )


def _measured_in(study: Study) -> dict[str, str]:
    """Number type, kind of device and what prepared the pixels, as `LoadedModel.measured_in` has them."""
    known = {name: study.facts.details.get(name) for name in ("dtype", "device", "pixels")}
    return {name: str(value).partition(":")[0] for name, value in known.items() if value is not None}


def _model_revision(study: Study) -> dict[str, str]:
    """The commit of a model from the hub, or the revision that was asked for."""
    wanted = study.spec.model
    found = cached_commit(wanted.path, wanted.revision) or wanted.revision
    return {"model_revision": found} if found else {}


def _study(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    spec, facts = study.spec, study.facts
    complete = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t)]
    states = [t.state.name for t in trials if is_distinct(t)]
    return {
        "name": spec.name,
        "objectives": list(spec.objectives),
        "directions": objectives.directions(spec),
        "constraints": spec.constraints.max_drop,
        "within": spec.search.within,
        "left_out": [item._asdict() for item in study.scope.left_out],
        "stopped": _stopped(trials),
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
            name: {
                "path": data.path,
                "samples": data.size,
                "digest": data.digest,
                "rows": dict(data.kinds),
                "unread": list(data.unread),
            }
            for name, data in study.splits.items()
        },
        **{k: v for k, v in facts.details.items() if k in _SHOWN_DETAILS},
    }


def _stopped(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Candidates that were not measured on all rows, by reason."""
    pruned = [t for t in trials if t.state == TrialState.PRUNED and is_distinct(t)]
    unfinished = sum(bool(measured_of(t).get("unfinished")) for t in pruned)
    found = {
        "raced": len(pruned) - unfinished,
        "not worth the rest": unfinished,
        "failed": sum(t.state == TrialState.FAIL and is_distinct(t) for t in trials),
        "over budget": sum(t.state == TrialState.WAITING for t in trials),
    }
    return {reason: count for reason, count in found.items() if count}


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
