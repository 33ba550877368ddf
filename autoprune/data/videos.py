"""Videos of a data set, as the frames that somebody took out of them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.data.images import ImageSource

_FRAMES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_EXTRACT = "take frames out of it (ffmpeg -i VIDEO -vf fps=1 FOLDER/%05d.png) and give the folder, or a list of images"


@dataclass(frozen=True)
class VideoSource:
    """One video: its frames in order, all of the same size."""

    frames: tuple[ImageSource, ...]

    @classmethod
    def from_cell(cls, cell: Any, base: Path) -> VideoSource:
        """The video in one cell of a row.

        Video files are not decoded: how many frames a decoder takes, and which, would change the tokens of the row.

        Args:
            cell: A list of images as `ImageSource.from_cell` takes them, or a folder of images (relative to `base`), in
                the order of the numbers in their names.
            base: Folder that relative paths start at.

        Raises:
            ValueError: it is neither, or the frames differ in size.
        """
        cells = cell
        if isinstance(cell, str):
            folder = base / cell
            if not os.path.exists(folder):  # also of a name that is too long
                raise ValueError(f"no such folder: {folder}")
            if not folder.is_dir():
                raise ValueError(f"{cell} is a video file, and those are not decoded: {_EXTRACT}")
            found = (file for file in folder.iterdir() if file.suffix.lower() in _FRAMES)
            cells = [str(file.resolve()) for file in sorted(found, key=_place)]
        if not isinstance(cells, (list, tuple)):
            raise ValueError(f"must be a list of images or a folder of images, is {type(cell).__name__}: {_EXTRACT}")
        if not cells:
            raise ValueError(f"has no frames ({', '.join(_FRAMES)})")
        frames = tuple(ImageSource.from_cell(frame, base) for frame in cells)
        if len(sizes := {frame.size for frame in frames}) > 1:
            raise ValueError(f"has frames of {len(sizes)} sizes, such as {sorted(sizes)[:2]}")
        return cls(frames)


def _place(file: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", file.stem)], file.name
