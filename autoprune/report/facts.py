"""The last section: what mattered in the search, and how the figures were made."""

from __future__ import annotations

from typing import Any

from autoprune.report.reading import model_name
from autoprune.report.words import duration, percent
from autoprune.search.front import FrontFile
from autoprune.search.notes import StudyNotes

_INTERVALS = (
    "95 %: Wilson for accuracy, paired bootstrap over groups of rows for drops. The front is chosen on calibration "
    "rows and shown on validation rows."
)
_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}


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
    known |= {
        **model.model_dump(include={"hidden_size", "dtype", "pixels"}),
        "fingerprint": str(model.fingerprint)[:12],
    }
    metric = study.metric and f"{study.metric.get('name')}, version {study.metric.get('version')}"
    found = [
        ("Rows", _rows(study)),
        ("Intervals", _INTERVALS),
        ("Metric", metric),
        ("FLOPs convention", study.convention),
        ("Latency", _latency(front)),
        ("Trials", ", ".join(f"{n} {_STATES.get(state, state.lower())}" for state, n in study.counts.items() if n)),
        ("Near ties", _near_ties(study.near_ties)),
        ("Scoring", study.by_generating),
        ("Duration", _duration(study)),
        ("Memory of a worker", _memory(study)),
        ("Model", _pairs(known)),
        ("Hardware", _pairs(study.hardware)),
        ("Versions", _pairs(study.versions)),
        ("Seeds", _pairs(study.seeds)),
    ]
    return [(name, said) for name, said in found if said]


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
    if study.estimate and study.estimate.seconds:
        said += f", {duration(study.estimate.seconds)} expected"
    return said + (f"; {study.worker_restarts} workers were restarted" if study.worker_restarts else "")


def _memory(study: StudyNotes) -> str | None:
    if not study.peak_bytes:
        return None
    expected = study.estimate and study.estimate.memory_bytes
    return f"{study.peak_bytes / 1e9:.2f} GB at most" + (f", {expected / 1e9:.2f} GB expected" if expected else "")


def _rows(study: StudyNotes) -> str:
    said = []
    for name, data in study.data.items():
        kinds = "".join(f", {count} {kind}" for kind, count in data.rows.items())
        unread = f", columns not read: {', '.join(data.unread)}" if data.unread else ""
        said.append(f"{name}: {data.samples} rows of {data.path} (digest {data.digest[:12]}{kinds}{unread})")
    if study.visual_tokens:
        said.append(f"{study.visual_tokens:.4g} visual and {study.text_tokens or 0:.3g} text tokens a row on average")
    return "; ".join(said)


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in (values or {}).items() if v not in (None, ""))
