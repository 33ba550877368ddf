"""What a reader must know to trust the figures, and which parameters moved them."""

from __future__ import annotations

from html import escape
from typing import Any

from autoprune.report.markup import cell, note, row, section
from autoprune.report.reading import Front
from autoprune.report.words import duration, model_name, percent

_STOPPED = "The study was stopped before its end: running autoprune calibrate with its study file again resumes it."
_UNVALIDATED = (
    "Not every point was re-measured on validation rows: those figures come from the rows that the search used, "
    "and flatter it."
)
_IMPORTANCE = (
    "Share of the variation over the explored schedules that a search parameter explains; it describes this search, "
    "not the model in general."
)
_INTERVALS = (
    "95 %: Wilson for accuracy, paired bootstrap over groups of rows for drops. The front is chosen on calibration "
    "rows and shown on validation rows."
)
_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early by racing", "FAIL": "failed"}


def warnings(front: Front) -> str:
    """What is not as it should be, said before the figures."""
    said = [] if front["study"].get("complete", True) else [_STOPPED]
    if any(not p.get("validation") for p in front["points"]):
        said.append(_UNVALIDATED)
    return "".join(f'<p class="warn">{escape(text)}</p>' for text in said)


def importances_section(front: Front) -> str:
    """Bars of parameter importances, one table per objective."""
    importances: dict[str, dict[str, float]] = {k: v for k, v in (front["study"].get("importances") or {}).items() if v}
    if not importances:
        return ""
    cards = "".join(_bars(objective, shares) for objective, shares in importances.items())
    return section("matters", "What mattered in the search", f'{note(_IMPORTANCE)}<div class="bars">{cards}</div>')


def notes_list(front: Front) -> str:
    """Samples, convention, hardware, versions and seeds as a definition list."""
    study = front["study"]
    model = {k: front["model"].get(k) for k in ("name", "model_type", "num_layers", "hidden_size", "dtype")}
    model |= {"name": model_name(front["model"]), "fingerprint": str(front["model"].get("fingerprint"))[:12]}
    facts = [
        ("Rows", _rows(study)),
        ("Intervals", _INTERVALS),
        ("FLOPs convention", study.get("convention")),
        ("Latency", _latency(front)),
        ("Trials", ", ".join(f"{n} {_STATES.get(s, s.lower())}" for s, n in (study.get("counts") or {}).items() if n)),
        ("Near ties", _near_ties(study.get("near_ties"))),
        ("Duration", _duration(study)),
        ("Model", _pairs(model)),
        ("Hardware", _pairs(study.get("hardware"))),
        ("Versions", _pairs(study.get("versions"))),
        ("Seeds", _pairs(study.get("seeds"))),
    ]
    body = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts if v)
    return f'<div class="honest card"><dl>{body}</dl></div>'


def _bars(objective: str, shares: dict[str, float]) -> str:
    top = max(shares.values()) or 1.0
    rows = (
        row("", name.replace("_", " "), [cell(percent(share, 0)), cell(_bar(share / top))])
        for name, share in sorted(shares.items(), key=lambda item: -item[1])[:8]
    )
    return f'<div class="card"><h3>for {escape(objective)}</h3><table><tbody>{"".join(rows)}</tbody></table></div>'


def _bar(share: float) -> str:
    return f'<div class="bar" style="width:{share * 100:.0f}%"></div>'


def _latency(front: Front) -> str:
    timed = next((p["latency"] for p in front["points"] if p.get("latency")), None)
    if not timed:
        return "not measured in this run"
    new = timed.get("new_tokens")
    end = f"; end to end generates {new} tokens" if new else ""
    return f"dense and pruned in turn in one process, medians, batch of {timed.get('batch')}{end}"


def _near_ties(share: float | None) -> str | None:
    if share is None:
        return None
    if share == 0:
        return "no reference token wins by less than kernel noise"
    return f"{percent(share, 2)} of the reference tokens win by less than kernel noise: another kernel may flip them"


def _duration(study: dict[str, Any]) -> str | None:
    if not study.get("seconds"):
        return None
    searched, restarts = study.get("seconds_search"), study.get("worker_restarts")
    said = duration(study["seconds"]) + (f", {duration(searched)} of it searching" if searched else "")
    return said + (f"; {restarts} workers were restarted" if restarts else "")


def _rows(study: dict[str, Any]) -> str:
    said = []
    for name, data in (study.get("data") or {}).items():
        if isinstance(data, dict):
            digest = str(data.get("digest"))[:12]
            said.append(f"{name}: {data.get('samples')} rows of {data.get('path')} (digest {digest})")
    if study.get("visual_tokens"):
        text = study.get("text_tokens") or 0
        said.append(f"{study['visual_tokens']:.4g} visual and {text:.3g} text tokens a row on average")
    return "; ".join(said)


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in (values or {}).items() if v not in (None, ""))
