"""The first screen and the last: what the study bought, what to know before trusting it, and how it was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

from autoprune.evaluate.objectives import KV_BYTES, Objective
from autoprune.report.export import DEFAULT_MAX_DROP, NoPointError, select_point
from autoprune.report.reading import (
    drop_interval,
    drop_of,
    flops_of,
    held_out,
    model_name,
    point_name,
    pruned_points,
    quality_interval,
    quality_of,
    value_of,
    worst_task,
)
from autoprune.report.words import duration, interval, milliseconds, percent, points
from autoprune.search.front import FrontFile, Point
from autoprune.search.notes import StudyNotes

_STOPPED = "The study was stopped before its end: running autoprune calibrate with its study file again resumes it."
_UNVALIDATED = (
    "Not every point was re-measured on validation rows: those figures come from the rows that the search used, "
    "and flatter it."
)
_INTERVALS = (
    "95 %: Wilson for accuracy, paired bootstrap over groups of rows for drops. The front is chosen on calibration "
    "rows and shown on validation rows."
)
_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early by racing", "FAIL": "failed"}


class Span(NamedTuple):
    """A piece of a sentence, and how it is set: plain, strong or code."""

    text: str
    style: str = ""


class Tile(NamedTuple):
    """One figure of the first screen."""

    what: str
    value: str
    beside: str


def recommended(front: FrontFile) -> Point | None:
    """The point that `autoprune export` takes by default; without one, the nearest; None on an empty front."""
    try:
        return select_point(front)
    except NoPointError:
        known = [(drop, p) for p in pruned_points(front) if (drop := drop_of(front, p)) is not None]
        return min(known, key=lambda item: item[0])[1] if known else None


def headline(front: FrontFile) -> list[Span]:
    """The study in one sentence."""
    point = recommended(front)
    if point is None:
        return [Span("No pruned schedule was measured to the end")]
    row, drop = quality_of(front), drop_of(front, point) or 0.0
    flops = [Span(percent(flops_of(point), 0), "strong"), Span(" of the prefill FLOPs")]
    if not _is_within(drop):
        lost = Span(_loss(row, drop), "strong")
        return [
            Span(f"No schedule stays within {_bound(row)} of dense: the nearest loses "),
            lost,
            Span(" at "),
            *flops,
        ]
    mine, dense = value_of(row, held_out(point)), value_of(row, held_out(front.dense))
    if not row.more_is_better:
        return [Span("Stays within "), Span(_loss(row, drop), "strong"), Span(" of the dense answers at "), *flops]
    if not dense:
        return [Span("The dense model itself gets nothing right: on these rows there is nothing to lose")]
    kept = Span(percent(mine / dense), "strong")
    return [Span("Keeps "), kept, Span(f" of the dense model’s {row.label} at "), *flops]


def lead(front: FrontFile) -> list[Span]:
    """Lead under the headline: the point, its interval, the rows it was measured on."""
    point = recommended(front)
    if point is None:
        return [Span("Run the study with more trials, or look at the failed trials below.")]
    row, figures, dense = quality_of(front), held_out(point), held_out(front.dense)
    where = "held-out rows" if point.validation else "calibration rows (the study stopped before its validation)"
    low_high = drop_interval(front, point)
    sure = f", 95 % interval {points(low_high[0])} to {points(low_high[1])}" if low_high else ""
    drop = drop_of(front, point) or 0.0
    moves = f"loses {row.unit.loss(drop)}" if drop >= 0 else f"gains {row.unit.loss(-drop)}"
    against = f"{row.unit.value(value_of(row, figures))} against {row.unit.value(value_of(row, dense))}{sure}"
    said = Span(f"{_named(point)} {moves} ({against}) on {figures.samples} {where}. ")
    if _is_within(drop):
        cheapest = f": the cheapest schedule within {_bound(row)} of dense."
        return [said, Span("It is the default of "), Span("autoprune export", "code"), Span(cheapest)]
    more = Span(" takes a larger loss; more trials may find better schedules.")
    return [said, Span("autoprune export --max-drop", "code"), more]


def tiles(front: FrontFile) -> list[Tile]:
    """The recommended point's figures beside the dense ones."""
    point = recommended(front)
    if point is None:
        return []
    row, figures, dense = quality_of(front), held_out(point), held_out(front.dense)
    low_high = quality_interval(front, point)
    sure = f" · 95 % {interval(low_high)}" if low_high else ""
    value, of_dense = row.unit.value(value_of(row, figures)), row.unit.value(value_of(row, dense))
    flops = f"of dense · {percent(figures.flops_ratio_end_to_end)} end to end"
    found = [Tile(row.short, value, f"dense {of_dense}{sure}"), Tile("Prefill FLOPs", percent(flops_of(point)), flops)]
    if times := point.latency:
        dense_ms = times.prefill_dense_ms
        beside = f"dense {milliseconds(dense_ms)} · {dense_ms / times.prefill_ms:.2f}× as fast" if dense_ms else ""
        found.append(Tile("Prefill time", milliseconds(times.prefill_ms), beside))
    found.append(Tile(KV_BYTES.label, percent(figures.kv_ratio), "of the dense bytes"))
    if worst := worst_task(front, point):
        lost = f"−{row.unit.change(worst[1])}" if worst[1] > 0 else f"+{row.unit.change(-worst[1])}"
        found.append(Tile("Worst task", lost, f"{row.unit.difference} on {worst[0]}"))
    return found


def warnings(front: FrontFile) -> list[str]:
    """Warnings that stand before the figures."""
    unvalidated = any(point.validation is None for point in front.points)
    return [*([] if front.study.complete else [_STOPPED]), *([_UNVALIDATED] if unvalidated else [])]


def importances(front: FrontFile) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """For each objective its search parameters: name, share of the variation, and length of the bar in percent."""
    found = []
    for objective, shares in front.study.importances.items():
        if not shares:
            continue
        top = max(shares.values()) or 1.0
        best = sorted(shares.items(), key=lambda item: -item[1])[:8]
        bars = [(name.replace("_", " "), percent(share, 0), round(100 * share / top)) for name, share in best]
        found.append((objective, bars))
    return found


def facts(front: FrontFile) -> list[tuple[str, str]]:
    """Rows, convention, hardware, versions and seeds, each with its name; what is not known is left out."""
    study, model = front.study, front.model
    known: dict[str, Any] = {"name": model_name(model), **model.model_dump(include={"model_type", "num_layers"})}
    known |= {**model.model_dump(include={"hidden_size", "dtype"}), "fingerprint": str(model.fingerprint)[:12]}
    metric = study.metric and f"{study.metric.get('name')}, version {study.metric.get('version')}"
    found = [
        ("Rows", _rows(study)),
        ("Intervals", _INTERVALS),
        ("Metric", metric),
        ("FLOPs convention", study.convention),
        ("Latency", _latency(front)),
        ("Trials", ", ".join(f"{n} {_STATES.get(state, state.lower())}" for state, n in study.counts.items() if n)),
        ("Near ties", _near_ties(study.near_ties)),
        ("Duration", _duration(study)),
        ("Model", _pairs(known)),
        ("Hardware", _pairs(study.hardware)),
        ("Versions", _pairs(study.versions)),
        ("Seeds", _pairs(study.seeds)),
    ]
    return [(name, said) for name, said in found if said]


def _is_within(drop: float) -> bool:
    """A float's last digit must not refuse a point that loses exactly the bound."""
    return drop <= DEFAULT_MAX_DROP + 1e-9


def _named(point: Point) -> str:
    name = point_name(point)
    return f"Trial {point.trial}" if name.startswith("trial") else f"The preset {name}, trial {point.trial},"


def _loss(row: Objective, drop: float) -> str:
    return f"{row.unit.loss(drop)} of {row.label}" if row.more_is_better else row.unit.loss(drop)


def _bound(row: Objective) -> str:
    return "1 point" if row.more_is_better else f"{DEFAULT_MAX_DROP:g} {row.unit.difference}"


def _latency(front: FrontFile) -> str:
    timed = next((p.latency for p in front.points if p.latency), None)
    if not timed:
        return "not measured in this run"
    end = f"; end to end generates {timed.new_tokens} tokens" if timed.new_tokens else ""
    batch = f", batch of {timed.batch}" if timed.batch else ""
    return f"dense and pruned in turn in one process, medians{batch}{end}"


def _near_ties(share: float | None) -> str | None:
    if share is None:
        return None
    if share == 0:
        return "no reference token wins by less than kernel noise"
    return f"{percent(share, 2)} of the reference tokens win by less than kernel noise: another kernel may flip them"


def _duration(study: StudyNotes) -> str | None:
    if not study.seconds:
        return None
    said = duration(study.seconds)
    said += f", {duration(study.seconds_search)} of it searching" if study.seconds_search else ""
    return said + (f"; {study.worker_restarts} workers were restarted" if study.worker_restarts else "")


def _rows(study: StudyNotes) -> str:
    said = [
        f"{name}: {data.samples} rows of {data.path} (digest {data.digest[:12]})" for name, data in study.data.items()
    ]
    if study.visual_tokens:
        said.append(f"{study.visual_tokens:.4g} visual and {study.text_tokens or 0:.3g} text tokens a row on average")
    return "; ".join(said)


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in (values or {}).items() if v not in (None, ""))
