"""From an image file to 8-bit RGB, by one rule for every format, depth and orientation.

Depths of 16 bits are scaled to 8; what is transparent stands on white; pictures are turned as their EXIF data says; of
an animation the first frame is taken. It imports nothing of autoprune, because compiled models hold a copy of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 100_000_000
"""Pixels of the largest image that is read; a small file may unpack to far more."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, as Pillow names them; others, such as EPS, start programs to be read."""

_DEPTH_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_ORIENTATION, _TURNED = 0x0112, range(5, 9)  # the EXIF tag, and its values that swap width and height
_PREVIEW = 8  # a JPEG is decoded to an eighth of its size to see whether it is whole


def check_image(data: bytes) -> None:
    """Refuses what is no whole image that can be read.

    Raises:
        ValueError: with the reason.
    """
    with opened(data) as image:
        if image.mode == "F":
            raise ValueError("has pixels in floating point, whose range nobody states: save it with 8 or 16 bits")
        image.draft("RGB", (image.width // _PREVIEW, image.height // _PREVIEW))
        image.load()


def rgb(data: bytes) -> Image.Image:
    """The image, decoded to 8-bit RGB.

    Raises:
        ValueError: with the reason.
    """
    with opened(data) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode in _DEPTH_16:
            turned = turned.convert("I").point(lambda value: value / 257 + 0.5).convert("L")
        if turned.has_transparency_data:
            shown = turned.convert("RGBA")
            turned = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
        return turned.convert("RGB")


def shown_size(data: bytes) -> tuple[int, int]:
    """Width and height of the image as it is shown, from its header."""
    with opened(data) as image:
        turned = image.getexif().get(_ORIENTATION) in _TURNED
        return (image.height, image.width) if turned else (image.width, image.height)


def is_plain(data: bytes) -> bool:
    """Whether an image is 8-bit, upright and opaque, so that its pixels are those that were stored."""
    with opened(data) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return upright and image.mode not in _DEPTH_16 and not image.has_transparency_data


def is_animation(data: bytes) -> bool:
    """Whether there are more frames than the one that is used; the second picture of a camera's MPO is none."""
    with opened(data) as image:
        return image.format != "MPO" and getattr(image, "is_animated", False)


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The image with its header read; whatever Pillow raises meanwhile is told as one reason.

    Raises:
        ValueError: it is no image, damaged, too large, or of a format that is not read.
    """
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=known) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
                yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"is no image of a format that is read ({', '.join(known)})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"has more than {MOST_PIXELS:,} pixels") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"is damaged: {error}") from error
