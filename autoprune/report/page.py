"""The report as one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

import shlex
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autoprune.report.answer import answer
from autoprune.report.chart import chart_data
from autoprune.report.choices import choice_rows, choices_note
from autoprune.report.comparisons import control_heads, control_note, control_rows, heat_note, heat_rows
from autoprune.report.facts import facts, importances
from autoprune.report.methods import verdict_note, verdict_rows
from autoprune.report.overview import headline, lead, recommended, tiles, warnings
from autoprune.report.plots import front_png
from autoprune.report.reading import everything, model_name, quality_of, task_names
from autoprune.report.rendering import asset, render, script_sources
from autoprune.report.spending import growth_chart, spending_notes, spending_rows
from autoprune.report.tables import KINDS, card, cards, key_of, table_heads, table_rows
from autoprune.report.times import HEADS, time_note, time_rows
from autoprune.report.words import criterion_class
from autoprune.schedule.criteria.declaration import Color
from autoprune.schedule.files import write_whole
from autoprune.search.front import FrontFile


def shown_path(folder: str | Path) -> Path:
    """A folder as somebody who works here would type it."""
    path = Path(folder)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def write_report(front: FrontFile, folder: str | Path) -> list[Path]:
    """Write ``report.html`` and ``front.png`` into a study's output folder, each whole or not at all.

    Returns:
        The two paths.
    """
    page, picture = Path(folder) / "report.html", Path(folder) / "front.png"
    write_whole(page, render_page(front, shown_path(folder).as_posix()))
    front_png(front, picture)
    return [page, picture]


def render_page(front: FrontFile, run: str = "RUN") -> str:
    """The report of a front.

    Args:
        front: The front.
        run: The output folder as the commands on the page name it.
    """
    run = shlex.quote(run)
    shown, best, choices, arms = cards(front), recommended(front), choice_rows(front), control_rows(front)
    start = key_of("front", best) if best else key_of("dense", front.dense)
    data = chart_data(front) | {
        "start": start,
        "growth": growth_chart(front),
        "schedules": {key_of(kind, p): p.schedule.to_json_dict() for kind, p in shown if kind != "dense"},
    }
    plotly, shared, script = Markup(get_plotlyjs()), asset("shared.js"), asset("page.js")
    return render(
        "page.html.j2",
        title=f"{front.study.name}: front of {model_name(front.model)}",
        study=front.study.name,
        model=f"{model_name(front.model)} ({front.model.model_type}, {front.model.num_layers} layers)",
        colors=_colors(front),
        kinds=KINDS,
        quality=quality_of(front),
        headline=headline(front),
        lead=lead(front),
        tiles=tiles(front),
        warnings=warnings(front),
        answer=answer(front, run, choices),
        cards=[card(front, kind, point, run) for kind, point in shown],
        choices=choices,
        choices_note=choices_note(),
        verdicts=verdict_rows(front),
        verdict_note=verdict_note(front),
        tasks=task_names(front),
        heat=heat_rows(front),
        heat_note=heat_note(front),
        controls=arms,
        control_heads=control_heads(arms),
        control_note=control_note(front),
        times=time_rows(front),
        time_heads=HEADS,
        time_note=time_note(front),
        spending=spending_rows(front),
        spending_notes=spending_notes(front),
        left_out=front.study.left_out,
        heads=table_heads(front),
        rows=table_rows(front),
        importances=importances(front),
        run=run,
        facts=facts(front),
        data=data,
        plotly=plotly,
        shared=shared,
        js=script,
        script_sources=script_sources(plotly, shared, script),
    )


def _colors(front: FrontFile) -> dict[str, Color]:
    """The colour of every criterion on the page, by its CSS class."""
    stages = [stage for _, point in everything(front) for stage in point.schedule.stages]
    stages += [stage for point in front.baselines for stage in point.schedule.stages]
    return {criterion_class(s.criterion): s.criterion.color for s in stages if s.criterion}
