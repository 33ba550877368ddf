"""Write the page and the picture beside the front that they show."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.report.page import render_page
from autoprune.report.plots import front_png
from autoprune.report.reading import Front


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
    partial = page.with_name(f".{os.getpid()}.partial.html")
    partial.write_text(render_page(front, shown_path(folder).as_posix()), encoding="utf-8")
    os.replace(partial, page)
    partial = picture.with_name(f".{os.getpid()}.partial.png")
    front_png(front, partial)
    os.replace(partial, picture)
    return [page, picture]
