"""Scenes of coloured things: real handwritten digits and drawn shapes on a noisy background, and their pictures.

A picture is 192 x 192 pixels, 12 x 12 patches of the tower. Things are about 30 pixels wide and lie in cells of 32 x 32
pixels with a jitter, so one covers four to nine patches in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scans import ScanPool
from scenes import backgrounds

PATCHES = 12
CELLS = 6
CELL = 32
PATCH = CELL * CELLS // PATCHES
COLORS = {
    "red": (225, 45, 45),
    "green": (50, 190, 60),
    "blue": (60, 90, 240),
    "yellow": (235, 220, 50),
    "purple": (180, 60, 220),
    "orange": (245, 140, 30),
    "white": (240, 240, 240),
}
DIGITS = tuple(str(number) for number in range(10))
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
KINDS = (*DIGITS, *SHAPES)
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
_COVERED = 0.06  # mean opacity from which a patch shows a thing
_MARGIN = 6  # pixels a thing may hang over the edge while it is painted


@dataclass(frozen=True)
class Thing:
    """One thing of a scene: its cell, what it is and its colour."""

    row: int
    column: int
    kind: str
    color: str

    @property
    def value(self) -> int:
        """The number that a digit shows."""
        return int(self.kind)

    @property
    def place(self) -> str:
        """The ninth of the picture it lies in, such as ``top left``."""
        third = CELLS // 3
        return f"{ROWS[self.row // third]} {COLUMNS[self.column // third]}"


Scene = tuple[Thing, ...]
"""Things from left to right."""


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw 3 to 6 things, at least two of them digits; kinds, colours and columns are all distinct."""
    count = int(rng.integers(3, 7))
    digits = int(rng.integers(2, count + 1))
    kinds = [*rng.permutation(DIGITS)[:digits], *rng.permutation(SHAPES)[: count - digits]]
    colors, columns = rng.permutation(list(COLORS))[:count], rng.permutation(CELLS)[:count]
    things = [
        Thing(int(rng.integers(CELLS)), int(column), str(kind), str(color))
        for kind, color, column in zip(kinds, colors, columns, strict=True)
    ]
    return tuple(sorted(things, key=lambda thing: thing.column))


def digits_of(scene: Scene) -> list[Thing]:
    return [thing for thing in scene if thing.kind in DIGITS]


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(turns) ** 3
    y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return [(float(a), float(b)) for a, b in zip(x / 17, -y / 17, strict=True)]


_ARM = 0.32
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": [(float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 60)],
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -0.95), (0.95, 0.8), (-0.95, 0.8)],
    "star": _star(5, 0.42),
    "heart": _heart(),
    "cross": [
        (x * a, y * b)
        for x, y, corners in ((1, -1, 0), (1, 1, 1), (-1, 1, 0), (-1, -1, 1))
        for a, b in (((_ARM, 1), (_ARM, _ARM), (1, _ARM)) if corners == 0 else ((1, _ARM), (_ARM, _ARM), (_ARM, 1)))
    ],
}
_VARIANTS = 24


@cache
def _shape_masks() -> dict[str, NDArray[np.float32]]:
    """Opacity of slightly turned and scaled shapes, float32 [variants, 32, 32] of each."""
    rng, finer = np.random.default_rng(5), 4
    masks = {}
    for shape in SHAPES:
        drawn = []
        for _ in range(_VARIANTS):
            angle, radius = rng.uniform(-0.2, 0.2), rng.uniform(11, 14.5) * finer
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            corners = np.array(_OUTLINES[shape]) @ turn.T * radius + CELL * finer / 2
            canvas = Image.new("L", (CELL * finer, CELL * finer))
            ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=255)
            drawn.append(np.asarray(canvas.resize((CELL, CELL), Image.Resampling.BOX), np.float32) / 255)
        masks[shape] = np.stack(drawn)
    return masks


def _mask(thing: Thing, pool: ScanPool, rng: np.random.Generator) -> NDArray[np.float32]:
    if thing.kind in SHAPES:
        return _shape_masks()[thing.kind][rng.integers(_VARIANTS)]
    scan = pool.pick(np.array([thing.value]), rng)[0]
    side = int(rng.integers(28, 33))
    scaled = Image.fromarray((scan * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    mask = np.zeros((CELL, CELL), np.float32)
    at = (CELL - side) // 2
    mask[at : at + side, at : at + side] = np.asarray(scaled, np.float32) / 255
    return mask


def paint(scenes: list[Scene], pool: ScanPool, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Paint scenes.

    Returns:
        Pictures, uint8 [n, 192, 192, 3], and for every patch the number of the thing in its scene that it shows most
        of, int64 [n, 144], -1 where it shows none.
    """
    margin = ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    pixels = np.pad(backgrounds(len(scenes), rng), margin)
    owners = np.full((len(scenes), PATCHES * PATCHES), -1, np.int64)
    inner = slice(_MARGIN, -_MARGIN)
    for number, scene in enumerate(scenes):
        seen = np.full(PATCHES * PATCHES, _COVERED)
        for place, thing in enumerate(scene):
            mask, jitter = _mask(thing, pool, rng), rng.integers(-3, 4, 2) + _MARGIN
            rows = slice(thing.row * CELL + jitter[0], thing.row * CELL + jitter[0] + CELL)
            columns = slice(thing.column * CELL + jitter[1], thing.column * CELL + jitter[1] + CELL)
            tint = np.clip(np.array(COLORS[thing.color]) * rng.uniform(0.85, 1.05) + rng.normal(0, 8, 3), 0, 255)
            spot = pixels[number, rows, columns]
            pixels[number, rows, columns] = spot * (1 - mask[..., None]) + mask[..., None] * tint
            opacity = np.zeros(pixels.shape[1:3], np.float32)
            opacity[rows, columns] = mask
            patches = opacity[inner, inner].reshape(PATCHES, PATCH, PATCHES, PATCH).mean((1, 3)).ravel()
            owners[number][patches > seen] = place
            seen = np.maximum(seen, patches)
    return np.clip(pixels[:, inner, inner], 0, 255).astype(np.uint8), owners
