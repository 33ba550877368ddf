"""What a reader must know to trust the figures, and which parameters moved them."""

from __future__ import annotations

from html import escape
from typing import Any

from autoprune.report.reading import Front
from autoprune.report.words import duration, percent


def warnings(front: Front) -> str:
    """What is not as it should be, said before the figures."""
    said = []
    if not front["study"].get("complete", True):
        said.append(
            "The study was stopped before its last trial; `autoprune calibrate` with the same study file resumes it."
        )
    if any(not p.get("validation") for p in front["points"]):
        said.append(
            "Not every point was re-measured on the validation rows: those figures come from the rows that the search itself used, and flatter it."
        )
    return "".join(f'<p class="warn">{escape(text)}</p>' for text in said)


def importances_section(front: Front) -> str:
    """Bars of parameter importances, one table per objective."""
    importances: dict[str, dict[str, float]] = {k: v for k, v in (front["study"].get("importances") or {}).items() if v}
    if not importances:
        return ""
    cards = []
    for objective, shares in importances.items():
        top = max(shares.values()) or 1.0
        rows = "".join(
            f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td>{percent(share, 0)}</td><td><div class="bar" style="width:{share / top * 100:.0f}%"></div></td></tr>'
            for name, share in sorted(shares.items(), key=lambda item: -item[1])[:8]
        )
        cards.append(f'<div class="card"><h3>for {escape(objective)}</h3><table><tbody>{rows}</tbody></table></div>')
    note = "Share of the variation over the explored schedules that a search parameter explains; it describes this search space, not the model in general."
    return f'<section aria-labelledby="matters"><h2 id="matters">What mattered in the search</h2><p class="note">{note}</p><div class="bars">{"".join(cards)}</div></section>'


def notes_list(front: Front, latency_note: str) -> str:
    """Samples, convention, hardware, versions and seeds as a definition list."""
    study = front["study"]
    facts = [
        ("Rows", _rows(study)),
        (
            "Intervals",
            "95 %: Wilson for accuracy, paired bootstrap over groups of rows for drops. The front is chosen on calibration rows and shown on validation rows.",
        ),
        ("FLOPs convention", study.get("convention")),
        ("Latency", latency_note),
        ("Trials", ", ".join(f"{n} {_STATES.get(s, s.lower())}" for s, n in (study.get("counts") or {}).items() if n)),
        ("Duration", duration(study["seconds"]) if study.get("seconds") else None),
        (
            "Model",
            _pairs(
                {
                    k: front["model"].get(k)
                    for k in ("name", "model_type", "num_layers", "hidden_size", "fingerprint", "dtype")
                }
            ),
        ),
        ("Hardware", _pairs(study.get("hardware"))),
        ("Versions", _pairs(study.get("versions"))),
        ("Seeds", _pairs(study.get("seeds"))),
    ]
    body = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts if v)
    return f'<div class="honest card"><dl style="margin:0">{body}</dl></div>'


_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early by racing", "FAIL": "failed"}


def _rows(study: dict[str, Any]) -> str:
    said = []
    for name, data in (study.get("data") or {}).items():
        if isinstance(data, dict):
            said.append(
                f"{name}: {data.get('samples')} rows of {data.get('path')} (digest {str(data.get('digest'))[:12]})"
            )
    if study.get("visual_tokens"):
        said.append(
            f"{study['visual_tokens']:.4g} visual and {study.get('text_tokens') or 0:.3g} text tokens a row on average"
        )
    return "; ".join(said)


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in (values or {}).items() if v not in (None, ""))
