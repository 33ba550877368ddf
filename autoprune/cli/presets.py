"""``autoprune presets``: the published methods as schedules."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.options import Debug, Json
from autoprune.cli.output import emit, stdout, table


def presets(
    layers: Annotated[int, typer.Option("--layers", min=2, help="Map the published layers to a model this deep.")] = 32,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the published methods as schedules, mapped to a model's depth."""
    from autoprune import presets as library
    from autoprune.errors import ScheduleError
    from autoprune.report.words import stage_words

    schedules, refused = {}, {}
    for name in library.NAMES:
        try:
            schedules[name] = library.for_depth(name, layers)
        except ScheduleError as error:
            refused[name] = error.message
    if as_json:
        emit(
            {"layers": layers, "presets": {name: s.to_json_dict() for name, s in schedules.items()}, "refused": refused}
        )
        return
    rows = table(f"Presets for {layers} decoder layers", "preset")
    rows.add_column("stages")
    for name, schedule in schedules.items():
        rows.add_row(name, "\n".join(stage_words(s) for s in schedule.stages) or "no pruning")
    for name, reason in refused.items():
        rows.add_row(name, reason)
    stdout().print(rows)
