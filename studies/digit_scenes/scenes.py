"""Scenes: coloured handwritten digits on a noisy background, one digit per 16-pixel cell of a 12 x 12 grid."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scans import SIDE, ScanPool
from torch.nn import functional as F

GRID = 12
IMAGE_SIDE = GRID * SIDE
COLORS = {
    "red": (225, 45, 45),
    "green": (50, 200, 60),
    "blue": (60, 90, 240),
    "yellow": (235, 220, 50),
    "purple": (190, 60, 220),
    "white": (240, 240, 240),
}
COLOR_NAMES = list(COLORS)
_COLOR_VALUES = np.array(list(COLORS.values()), np.float32)
_BORDER = 2  # pixels a jittered digit may hang over the edge while it is painted


@dataclass(frozen=True)
class Item:
    """One digit of a scene: its cell, its value and its colour name."""

    row: int
    column: int
    digit: int
    color: str


@dataclass(frozen=True)
class Marks:
    """Digits to paint on a batch of images, as equally long int64 arrays (`color` indexes COLOR_NAMES)."""

    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    digit: NDArray[np.int64]
    color: NDArray[np.int64]


def random_scene(rng: np.random.Generator) -> tuple[Item, ...]:
    """Draw 3 to 6 items whose rows, columns, digits and colours are all distinct."""
    count = int(rng.integers(3, 7))
    rows, columns = rng.permutation(GRID)[:count], rng.permutation(GRID)[:count]
    digits, colors = rng.permutation(10)[:count], rng.permutation(len(COLORS))[:count]
    return tuple(
        Item(int(row), int(column), int(digit), COLOR_NAMES[color])
        for row, column, digit, color in zip(rows, columns, digits, colors, strict=True)
    )


def marks_of(scenes: list[tuple[Item, ...]]) -> Marks:
    """The items of a batch of scenes as flat arrays."""
    table = np.array(
        [
            (image, item.row, item.column, item.digit, COLOR_NAMES.index(item.color))
            for image, scene in enumerate(scenes)
            for item in scene
        ],
        np.int64,
    )
    return Marks(*table.T)


def backgrounds(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = rng.uniform(20, 80, (count, 1, 1, 1)) + rng.normal(0, 18, (count, 3, 6, 6))
    smooth = F.interpolate(torch.from_numpy(coarse.astype(np.float32)), size=IMAGE_SIDE, mode="bilinear")
    half = IMAGE_SIDE // 2
    noise = rng.standard_normal((count, half, half, 3), np.float32) * rng.uniform(2, 7, (count, 1, 1, 1))
    return smooth.permute(0, 2, 3, 1).numpy() + noise.astype(np.float32).repeat(2, 1).repeat(2, 2)


def paint(count: int, marks: Marks, pool: ScanPool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint `count` images, uint8 [count, 192, 192, 3]; every digit is shifted by at most one pixel."""
    pixels = np.pad(backgrounds(count, rng), ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
    total = len(marks.image)
    jitter = rng.integers(-1, 2, (2, total)) + _BORDER
    span = np.arange(SIDE)
    rows = (marks.row * SIDE + jitter[0])[:, None, None] + span[:, None]
    columns = (marks.column * SIDE + jitter[1])[:, None, None] + span
    where = (marks.image[:, None, None], rows, columns)
    opacity = pool.pick(marks.digit, rng)[..., None]
    tint = _COLOR_VALUES[marks.color] * rng.uniform(0.8, 1.05, (total, 1)) + rng.normal(0, 10, (total, 3))
    pixels[where] = pixels[where] * (1 - opacity) + opacity * np.clip(tint, 0, 255)[:, None, None]
    inner = slice(_BORDER, -_BORDER)
    return np.clip(pixels[:, inner, inner], 0, 255).astype(np.uint8)


def encode_webp(image: NDArray[np.uint8], quality: int, method: int = 4) -> bytes:
    """One image as lossy WebP."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=method)
    return buffer.getvalue()


def through_webp(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What is left of the images after lossy compression at a random quality of 85 to 95."""
    return np.stack(
        [
            np.asarray(Image.open(io.BytesIO(encode_webp(image, int(rng.integers(85, 96)), method=0))).convert("RGB"))
            for image in images
        ]
    )


def to_pixel_values(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [n, height, width, 3] to float32 [n, 3, height, width] in -1..1, as the image processor does."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
