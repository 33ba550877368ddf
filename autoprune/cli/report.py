"""``autoprune report``: the page and the picture of a study, drawn again."""

from __future__ import annotations

from autoprune.cli.front_table import front_table
from autoprune.cli.options import Debug, Json, Run
from autoprune.cli.output import emit, note, stdout


def report(run: Run, as_json: Json = False, debug: Debug = False) -> None:
    """Write report.html and front.png again from the front.json of a study, and print the front."""
    from autoprune.report.page import write_report
    from autoprune.search.front import FrontFile

    front = FrontFile.load(run)
    written = [str(path) for path in write_report(front, run)]
    if as_json:
        emit({"run": run, "written": written, "points": len(front.points)})
        return
    stdout().print(front_table(front))
    note(f"written: {', '.join(written)}")
