"""What all runs of a study have in common, so that a study in a database is continued as itself or refused."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from autoprune.errors import StudyError
from autoprune.evaluate.metrics import EXACT_MATCH, load_metric
from autoprune.search.sections import Evaluation
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import EngineFacts, Inputs

FINGERPRINT, PIXELS = "model_fingerprint", "model.pixels"
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 120


def of_file(spec: StudySpec, inputs: Inputs) -> dict[str, Any]:
    """What the study file says about everything but the model, and which rows it names."""
    identity: dict[str, Any] = {
        "evaluation.batch_size": spec.evaluation.batch_size,
        "evaluation.max_new_tokens": spec.evaluation.max_new_tokens,
        "objectives": [*spec.objectives, *_judged_by(spec), *_measured_by(spec)],
        "space": spec.space.identity(),
        "calibration": inputs.calibration.digest,
    }
    if spec.storage is not None:  # two drivers must not share a study; the lock guards one folder only
        identity["output"] = spec.output
    return identity


def of_settings(spec: StudySpec) -> dict[str, Any]:
    """Settings of the model that change answers and stand in the study file."""
    names = ("attn_implementation", "processor", "generation")
    return {f"model.{name}": getattr(spec.model, name) for name in names}


def of_model(spec: StudySpec, facts: EngineFacts) -> dict[str, Any]:
    """What the loaded model says, the settings that say why it is another one before its fingerprint."""
    told = {"model.dtype": facts.details.get("dtype"), PIXELS: facts.details.get("pixels")}
    known = {name: value for name, value in told.items() if value is not None}
    return {**of_settings(spec), **known, FINGERPRINT: facts.fingerprint}


def refuse_others(study: str, known: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuses what differs from what the database has; what it does not have differs from nothing.

    Raises:
        StudyError: naming the first field that differs, and both values.
    """
    for name, value in identity.items():
        if name in known and known[name] != value:
            before, now = _differing(known[name], value)
            raise StudyError(
                f"the study {study!r} in this database was made with another {name}: {_SHOWN.repr(before)}",
                field=name,
                value=_SHOWN.repr(now),
                remedy=_REMEDIES.get(name, "choose another name or output, or restore what it was"),
            )


_REMEDIES = {
    PIXELS: "images are prepared with torchvision where it is installed and with Pillow where not, and pixels differ: "
    "install or remove it (the extra `vision`), or choose another name or output",
}


def _differing(before: Any, now: Any) -> tuple[Any, Any]:
    """Of two mappings the entries that differ; other values as they are."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return before, now
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return {name: before.get(name) for name in names}, {name: now.get(name) for name in names}


def _judged_by(spec: StudySpec) -> list[str]:
    """The metric, if it is one of another package; the default adds nothing, as before there were others."""
    metric = load_metric(spec.metric)
    return [f"metric {metric.name}@{metric.version}"] if metric != EXACT_MATCH else []


def _measured_by(spec: StudySpec) -> list[str]:
    """How candidates are measured, if it is not the default; the default adds nothing, as before there were others."""
    given = spec.evaluation
    if given == Evaluation():
        return []
    return [f"evaluation of {given.batch_size} rows a batch, {given.max_new_tokens} tokens an answer"]
