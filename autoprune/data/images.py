"""Images of a data set, identified by a digest of their content and decoded only when a model needs them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError


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
            cell.convert("RGB").save(buffer, format="PNG")
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
        """Refuses a file that is missing or is no image, without decoding its pixels.

        Raises:
            ValueError: with the reason.
        """
        if self.path is not None and not self.path.is_file():
            raise ValueError(f"no such file: {self.path}")
        try:
            with Image.open(self._stream()) as image:
                image.verify()
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"cannot be read as an image: {self.path or 'embedded bytes'} ({error})") from error

    def open(self) -> Image.Image:
        """The decoded image, RGB."""
        with Image.open(self._stream()) as image:
            return image.convert("RGB")

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height, from the header."""
        with Image.open(self._stream()) as image:
            return image.width, image.height

    @cached_property
    def sha256(self) -> str:
        """Digest of the encoded bytes."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return self.data if self.data is not None else self._file().read_bytes()

    def _stream(self) -> io.BytesIO:
        return io.BytesIO(self._bytes())

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
