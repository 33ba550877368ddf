"""Neighbourhoods of visual tokens: 3 x 3 in the grid of their image, or nine in sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

SIDE = 3
"""A neighbourhood is 3 x 3, as in the paper."""


@dataclass(frozen=True)
class Neighbours:
    """For each visual token, tokens around it, itself included, as numbers of visual tokens in ascending order.

    Attributes:
        around: Its neighbourhood, with the token in the centre where that is possible.
        tile: The neighbourhood that it shares with the tokens beside it: tiles cover the image, a ninth as many.
    """

    around: list[list[int]]
    tile: list[list[int]]


def neighbourhoods(inputs: Mapping[str, Any], visual: Tensor, merge: int) -> Neighbours:
    """The neighbours of each visual token.

    Where tokens lie in a grid (`image_grid_thw`, or as many squares as `pixel_values` holds images or tiles), it is
    3 x 3, shifted inward at borders. Otherwise (newlines, ragged tiles, queries, video) it is the nine tokens that are
    nearest in the sequence within the same run of visual tokens, which is taken for one image.

    Args:
        inputs: Model inputs of one sample.
        visual: BoolTensor[S], visual tokens of the prompt.
        merge: Patches that become one token along each side (`spatial_merge_size`); used with `image_grid_thw`.
    """
    grids = _grids(inputs, int(visual.sum()), merge)
    found = Neighbours([], [])
    for height, width in grids if grids else [(1, run) for run in _runs(visual)]:
        tall, wide = (min(SIDE, height), min(SIDE, width)) if grids else (1, min(SIDE * SIDE, width))
        first = len(found.around)
        for row in range(height):
            for column in range(width):
                corner = _shifted(row, tall, height), _shifted(column, wide, width)
                found.around.append(_block(first, width, corner, (tall, wide)))
                corner = min(row // tall * tall, height - tall), min(column // wide * wide, width - wide)
                found.tile.append(_block(first, width, corner, (tall, wide)))
    return found


def _block(first: int, width: int, corner: tuple[int, int], size: tuple[int, int]) -> list[int]:
    """The tokens of a block of a grid that starts at token `first`."""
    (top, left), (tall, wide) = corner, size
    return [first + row * width + column for row in range(top, top + tall) for column in range(left, left + wide)]


def _shifted(place: int, size: int, end: int) -> int:
    """Start of a window of `size` around `place` that stays within [0, end)."""
    return max(0, min(place - size // 2, end - size))


def _grids(inputs: Mapping[str, Any], tokens: int, merge: int) -> list[tuple[int, int]]:
    """Height and width of each image, tile or frame, in the order of their tokens; empty where there is no grid."""
    sizes, pixels = inputs.get("image_grid_thw"), inputs.get("pixel_values")
    grids: list[tuple[int, int]] = []
    if isinstance(sizes, Tensor):
        grids = [(h // merge, w // merge) for t, h, w in sizes.tolist() for _ in range(t)]
    elif isinstance(pixels, Tensor) and pixels.ndim == 4:
        side = math.isqrt(tokens // len(pixels))
        grids = [(side, side)] * len(pixels)
    return grids if sum(h * w for h, w in grids) == tokens else []


def _runs(visual: Tensor) -> list[int]:
    """Lengths of the runs of visual tokens."""
    runs: list[int] = []
    before = False
    for here in visual.tolist():
        if here and before:
            runs[-1] += 1
        elif here:
            runs.append(1)
        before = here
    return runs
