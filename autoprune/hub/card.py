"""The card of a published schedule: README.md with front matter that the hub reads, and the figures of its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from autoprune.evaluate.objectives import ACCURACY, FLOPS
from autoprune.evaluate.statistics import wilson
from autoprune.report.words import interval, percent, points, stage_words
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import SCHEDULE_FILE
from autoprune.sources import is_path

_LIBRARY = "autoprune"
_TASK = "image-text-to-text"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def card_of(schedule: Schedule, name: str, base: str | None) -> str:
    """The card of a schedule.

    Args:
        schedule: The schedule; of its evidence, what is there is told.
        name: Of the repository.
        base: Name on the hub of the model that it is for.
    """
    results = _results(schedule)
    data = ModelCardData(
        library_name=_LIBRARY,
        base_model=base,
        base_model_relation="adapter" if base else None,  # it needs its base model, whose weights it does not change
        pipeline_tag=_TASK,
        tags=[_LIBRARY, "visual-token-pruning"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(_lines(schedule, name, base)) + "\n"


def is_ours(card: str) -> bool:
    """Whether a card is that of a schedule, and may be replaced by another one."""
    front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    return front is not None and re.search(f"^library_name: {_LIBRARY}$", front[1], re.MULTILINE) is not None


def is_hub_name(name: str) -> bool:
    """Whether a model of this name can be on the hub."""
    return _HUB_NAME.fullmatch(name) is not None and not is_path(name)


def _lines(schedule: Schedule, name: str, base: str | None) -> Iterator[str]:
    model = schedule.model
    of = f"`{base}`" if base else f"a model of type `{model.model_type}`" if model else "any model deep enough"
    yield from (
        f"# {name}",
        "",
        f"A pruning schedule of visual tokens, found with autoprune, for {of}. The weights stay",
    )
    yield from ("as they are: the schedule says before which decoder layers visual tokens leave, and which.", "")
    yield from (f"- {stage_words(stage)}" for stage in schedule.stages)
    figures = list(_figures(schedule.evidence))
    if figures:
        yield from ("", "| measured | |", "|---|---|", *(f"| {what} | {value} |" for what, value in figures))
    revision = _text(schedule.evidence, "model_revision")
    load = f'"{base or "the model that it was made for"}"' + (f', revision="{revision}"' if base and revision else "")
    yield from ("", "```python", "import autoprune", "from transformers import AutoModelForImageTextToText", "")
    yield f"model = AutoModelForImageTextToText.from_pretrained({load})"
    yield from (f'autoprune.apply(model, "{SCHEDULE_FILE}")', "```", "")
    yield from (f"- {line}" for line in _origin(schedule))


def _figures(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    flops, accuracy, drop = (_number(evidence, key) for key in (FLOPS.figure, ACCURACY.figure, "drop"))
    rows, searched = (_number(evidence, key) for key in ("samples", "calibration_samples"))
    if flops is not None:
        yield "share of the prefill FLOPs", percent(flops)
    if accuracy is not None:
        yield "accuracy [95 % interval]", f"{percent(accuracy)} {_share_interval(accuracy, rows)}".strip()
    if drop is not None:
        yield (
            "points lost against dense [95 % interval]",
            f"{points(drop)} {interval(_pair(evidence, 'drop_ci'))}".strip(),
        )
    if rows is not None:
        yield f"{_text(evidence, 'data') or 'measured'} rows", f"{rows:,.0f}"
    if searched is not None:
        yield "calibration rows of the search", f"{searched:,.0f}"


def _results(schedule: Schedule) -> list[EvalResult]:
    evidence = schedule.evidence
    study, split = _text(evidence, "study"), _text(evidence, "data")
    rows, searched = _number(evidence, "samples"), _number(evidence, "calibration_samples")
    about = {"samples": rows, "calibration_samples": searched, "digest": _text(evidence, "data_digest")}
    where: dict[str, Any] = {
        "task_type": _TASK,
        "dataset_type": study or "rows",
        "dataset_name": f"{split or 'rows'} of {study}" if study else split or "rows",
        "dataset_split": split,
        "dataset_args": {key: value for key, value in about.items() if value is not None} or None,
    }
    found = []
    for key, name in ((ACCURACY.figure, "accuracy"), (FLOPS.figure, "share of the prefill FLOPs"), ("drop", "loss")):
        if (value := _number(evidence, key)) is None:
            continue
        ends = _pair(evidence, f"{key}_ci")
        if key == ACCURACY.figure and rows:
            ends = ends or wilson(value * rows, int(rows))
        args = {"low": ends[0], "high": ends[1], "level": 0.95} if ends else None
        found.append(EvalResult(**where, metric_type=key, metric_name=name, metric_value=value, metric_args=args))
    return found


def _origin(schedule: Schedule) -> Iterator[str]:
    evidence, model = schedule.evidence, schedule.model
    for what, key in (("revision of the model", "model_revision"), ("fingerprint of its weights", "model_fingerprint")):
        if told := _text(evidence, key):
            yield f"{what}: `{told}`"
    if model:
        yield f"digest of its structure: `{model.config_sha256}`"
    versions = evidence.get("versions")
    if isinstance(versions, Mapping):
        yield "measured with " + ", ".join(f"{package} {version}" for package, version in versions.items())


def _share_interval(share: float, rows: float | None) -> str:
    return interval(wilson(share * rows, int(rows))) if rows else ""


def _number(evidence: Mapping[str, Any], key: str) -> float | None:
    """A number of evidence, which is free-form."""
    value = evidence.get(key)
    return value if isinstance(value, int | float) else None


def _text(evidence: Mapping[str, Any], key: str) -> str | None:
    value = evidence.get(key)
    return value if isinstance(value, str) else None


def _pair(evidence: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    value = evidence.get(key)
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(end, int | float) for end in value):
        return None
    return value[0], value[1]
