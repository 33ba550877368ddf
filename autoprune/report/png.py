"""A matplotlib figure as a PNG."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from autoprune.schedule.files import write_whole


def plain(text: str) -> str:
    """A text that matplotlib writes as it is; it takes what stands between dollar signs for mathematics."""
    return text.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def write_png(figure: Figure, path: str | Path) -> None:
    """Write the figure as a PNG file, whole or not at all."""
    write_whole(path, png_bytes(figure))
