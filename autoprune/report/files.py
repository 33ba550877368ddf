"""Write the page and the picture beside the front that they show."""

from __future__ import annotations

from pathlib import Path

from autoprune.report.page import render_page
from autoprune.report.plots import front_png
from autoprune.report.reading import Front
from autoprune.schedule.files import write_whole


def shown_path(folder: str | Path) -> Path:
    """A folder as somebody who works here would type it."""
    path = Path(folder)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def write_report(front: Front, folder: str | Path) -> list[Path]:
    """Write ``report.html`` and ``front.png`` into a study's output folder, each whole or not at all.

    Returns:
        The two paths.
    """
    page, picture = Path(folder) / "report.html", Path(folder) / "front.png"
    write_whole(page, render_page(front, shown_path(folder).as_posix()))
    front_png(front, picture)
    return [page, picture]
