"""The report as one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from autoprune.report.cards import card, key_of
from autoprune.report.chart import chart_data
from autoprune.report.comparisons import controls_table, presets_table
from autoprune.report.headline import headline, lead, recommended, tiles
from autoprune.report.markup import note, snippet
from autoprune.report.notes import importances_section, notes_list, warnings
from autoprune.report.reading import Front, everything, quality_of
from autoprune.report.tables import points_table
from autoprune.report.tasks import task_section
from autoprune.report.words import model_name

_PYTHON = """import autoprune

schedule = autoprune.Schedule.load("schedule.json")
patch = autoprune.apply(model, schedule)   # the stock transformers model, unchanged otherwise
model.generate(**inputs, max_new_tokens=64)
patch.remove()                             # exact undo"""
_FRONT_NOTE = (
    "Cheapest on the left, best at the top. On the calibration rows, no measured schedule is both cheaper and better "
    "in {} than a point of the front."
)


def render_page(front: Front, run: str = "RUN") -> str:
    """The report of a front.

    Args:
        front: The content of a front.json.
        run: The output folder as the commands on the page name it.
    """
    study, model = front["study"], front["model"]
    cards = [(kind, point) for kind, point in everything(front) if kind != "control"]
    cards += [("preset", p) for p in front["baselines"] if p["schedule"]["stages"] and ("preset", p) not in cards]
    best = recommended(front)
    start = key_of("front", best) if best else key_of("dense", front["dense"])
    data = chart_data(front) | {
        "start": start,
        "schedules": {key_of(k, p): p["schedule"] for k, p in cards if k != "dense"},
    }
    return Template(_asset("page.html")).substitute(
        title=escape(f"{study.get('name')}: front of {model_name(model)}"),
        study=escape(str(study.get("name"))),
        model=escape(f"{model_name(model)} ({model['model_type']}, {model['num_layers']} layers)"),
        css=_asset("page.css"),
        headline=headline(front),
        lead=lead(front),
        tiles=tiles(front),
        warnings=warnings(front),
        front_note=escape(_FRONT_NOTE.format(quality_of(front).label)),
        details="".join(card(front, kind, point, run) for kind, point in cards),
        presets=presets_table(front),
        tasks=task_section(front),
        controls=controls_table(front),
        table=points_table(front),
        importances=importances_section(front),
        usage=_usage(run),
        notes=notes_list(front),
        data=_embedded(data),
        plotly=get_plotlyjs(),
        js=_asset("page.js"),
    )


def _usage(run: str) -> str:
    check = "autoprune apply-check MODEL schedule.json\nautoprune verify MODEL schedule.json --data TEST.jsonl"
    return "".join(
        (
            note("Take the cheapest schedule within a loss that you accept:"),
            snippet(f"autoprune export {run} --max-drop 0.02 -o schedule.json"),
            note("Use it on the stock model:"),
            snippet(_PYTHON),
            note("See what it does to the model, and whether the claim holds on rows that no search has seen:"),
            snippet(check),
        )
    )


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("autoprune.report").joinpath(name).read_text(encoding="utf-8")
