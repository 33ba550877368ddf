"""Images of a data set, identified by a digest of their content and decoded only when a model needs them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from autoprune.data.pixels import check_image, is_animation, is_plain, rgb, shown_size

_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")  # modes that a PNG file holds
_RULE = b"8-bit RGB, upright, on white"
_LONGEST_PATH = 1000


@dataclass(frozen=True)
class ImageSource:
    """One image: a file, or bytes that a data set carries in its rows.

    Attributes:
        path: The file; None when the bytes are carried.
        data: The encoded bytes; None when they are read from `path`.
    """

    path: Path | None = None
    data: bytes | None = None

    @classmethod
    def from_cell(cls, cell: Any, base: Path) -> ImageSource:
        """The image in one cell of a row.

        Args:
            cell: A path (relative to `base`) or ``data:`` URL, a PIL image, or the ``{"bytes", "path"}`` of a
                `datasets` Image.
            base: Folder that relative paths start at.

        Raises:
            ValueError: the cell holds no image, or its file does not exist or cannot be read as an image.
        """
        if isinstance(cell, Image.Image):
            buffer = io.BytesIO()
            (cell if cell.mode in _PNG else cell.convert("RGB")).save(buffer, format="PNG")
            cell = {"bytes": buffer.getvalue()}
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, str):
            cell = _from_url(cell)
        if isinstance(cell, bytes):
            source = cls(data=cell)
        elif isinstance(cell, str) and cell:
            source = cls(path=base / cell)
        else:
            raise ValueError(f"must be a path or an image, is {type(cell).__name__}")
        source.check()
        return source

    def check(self) -> None:
        """Refuses a file that is missing, is no image, or is damaged.

        Raises:
            ValueError: with the reason.
        """
        if self.path is not None and not os.path.isfile(self.path):  # unlike Path's, False for what can be no path
            length = len(str(self.path))
            if length > _LONGEST_PATH:
                raise ValueError(f"is no path, it has {length} characters; base64 goes behind data:image/png;base64,")
            raise ValueError(f"no such file: {self.path}")
        try:
            check_image(self._bytes())
        except ValueError as error:
            raise ValueError(f"cannot be read as an image: {self.path or 'embedded bytes'} ({error})") from error
        if is_animation(self._bytes()):
            warnings.warn(f"{self.path or 'an embedded image'} is an animation: its first frame is used", stacklevel=2)

    def open(self) -> Image.Image:
        """The decoded image, 8-bit RGB by the rule of `pixels`."""
        return rgb(self._bytes())

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height, from the header."""
        return shown_size(self._bytes())

    @cached_property
    def sha256(self) -> str:
        """Digest of the encoded bytes, and of the rule where it changes what was stored."""
        data = self._bytes()
        return hashlib.sha256(data if is_plain(data) else data + _RULE).hexdigest()

    def _bytes(self) -> bytes:
        return self.data if self.data is not None else self._file().read_bytes()

    def _file(self) -> Path:
        if self.path is None:
            raise ValueError("an image needs a path or its bytes")
        return self.path


def _from_url(text: str) -> str | bytes:
    """The bytes in a ``data:`` URL, or a path.

    Raises:
        ValueError: it is the address of something on the web, or the bytes cannot be decoded.
    """
    scheme, _, rest = text.partition(":")
    if scheme in ("http", "https"):
        raise ValueError("is on the web, from where nothing is fetched: download it and give its path")
    if scheme == "data":
        try:
            return base64.b64decode(rest.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"is a data: URL that is not base64 ({error})") from error
    return rest.removeprefix("//") if scheme == "file" else text
