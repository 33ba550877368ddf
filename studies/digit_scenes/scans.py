"""The real handwritten digits scenes are made of, split so that no scan is ever in two sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
"""Pixels of one drawn digit, equal to one patch of the vision tower."""

_HELD_OUT = slice(1347, 1547)
SPLITS = {"train": slice(0, 1347), "calibration": _HELD_OUT, "validation": _HELD_OUT, "test": slice(1547, None)}
"""Places in one fixed shuffle. Calibration and validation share one pool of scans; their scenes differ."""

_VARIANTS = 6  # slanted and scaled copies of each training scan


@dataclass(frozen=True)
class ScanPool:
    """Opacity masks of the scans of one split.

    Attributes:
        masks: float32 [n, 16, 16] in 0..1.
        by_digit: for each digit 0-9 the indices of its masks.
        sources: for each mask the index of its scan in `load_digits`.
    """

    masks: NDArray[np.float32]
    by_digit: list[NDArray[np.int64]]
    sources: NDArray[np.int64]

    def pick(self, digits: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one random scan for each wanted digit: float32 [n, 16, 16]."""
        chosen = [self.by_digit[digit][rng.integers(len(self.by_digit[digit]))] for digit in digits]
        return self.masks[chosen]


def _enlarge(scan: NDArray[np.float64], angle: float, scale: float) -> NDArray[np.float32]:
    picture = Image.fromarray((scan * (255 / 16)).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if angle or scale != 1:
        radians, center = np.deg2rad(angle), (SIDE - 1) / 2
        cos, sin = np.cos(radians) / scale, np.sin(radians) / scale
        matrix = (cos, sin, center - cos * center - sin * center, -sin, cos, center + sin * center - cos * center)
        picture = picture.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(picture, np.float32) / 255 * 1.15, 0, 1)


def _all_scans() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the handwritten digits come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    return load_digits()


def scan_pool(split: str) -> ScanPool:
    """Load the scans of `split`; the training pool also holds slightly turned and scaled copies.

    Raises:
        ModuleNotFoundError: scikit-learn, which brings the scans, is not installed.
    """
    data = _all_scans()
    indices = np.random.default_rng(0).permutation(len(data.images))[SPLITS[split]]
    rng = np.random.default_rng(1)
    masks, sources = [], []
    for index in indices:
        masks.append(_enlarge(data.images[index], 0, 1))
        sources.append(index)
        if split == "train":
            for _ in range(_VARIANTS):
                masks.append(_enlarge(data.images[index], rng.uniform(-12, 12), rng.uniform(0.9, 1.1)))
                sources.append(index)
    labels = data.target[sources]
    return ScanPool(np.stack(masks), [np.flatnonzero(labels == digit) for digit in range(10)], np.array(sources))
