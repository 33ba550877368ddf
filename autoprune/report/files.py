"""Write the page and the picture beside the front that they show."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.report.page import render_page
from autoprune.report.plots import front_png
from autoprune.report.reading import Front


def write_report(front: Front, folder: str | Path) -> list[Path]:
    """Write ``report.html`` and ``front.png`` into a study's output folder, each whole or not at all.

    Returns:
        The two paths.
    """
    page, picture = Path(folder) / "report.html", Path(folder) / "front.png"
    partial = page.with_name(f".{os.getpid()}.partial.html")
    partial.write_text(render_page(front, Path(folder).as_posix()), encoding="utf-8")
    os.replace(partial, page)
    partial = picture.with_name(f".{os.getpid()}.partial.png")
    front_png(front, partial)
    os.replace(partial, picture)
    return [page, picture]
