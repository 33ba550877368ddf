"""Stage 1: the vision tower learns to name the digit, colour, row and column of every patch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from optimizer import MixedOptimizer, warm_then_decay
from scans import ScanPool, scan_pool
from scenes import COLOR_NAMES, GRID, Marks, marks_of, paint, random_scene, through_webp, to_pixel_values
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

STEPS = 1000
_DENSE, _SPARSE = 14, 10  # images per step: crowded pictures, and scenes as the questions will see them
_EMPTY = 0.15  # weight of an empty patch
_POSITION = 0.1  # weight of the row and column of a patch


class PatchHeads(nn.Module):
    """What the tower is asked to know: digit, colour, row, column of a patch; digits and colours of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.digit, self.color = nn.Linear(width, 11), nn.Linear(width, len(COLOR_NAMES) + 1)
        self.row, self.column = nn.Linear(width, GRID), nn.Linear(width, GRID)
        self.summary = nn.Linear(width, 10 + len(COLOR_NAMES))


def _crowded(count: int, rng: np.random.Generator) -> Marks:
    image, row, column = np.nonzero(rng.random((count, GRID, GRID)) < 0.3)
    return Marks(image, row, column, rng.integers(0, 10, len(image)), rng.integers(0, len(COLOR_NAMES), len(image)))


def _labels(count: int, marks: Marks) -> tuple[Tensor, Tensor]:
    digit, color = np.zeros((2, count, GRID, GRID), np.int64)
    digit[marks.image, marks.row, marks.column] = marks.digit + 1
    color[marks.image, marks.row, marks.column] = marks.color + 1
    return torch.from_numpy(digit).flatten(1), torch.from_numpy(color).flatten(1)


def _batch(pool: ScanPool, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Tensor, Tensor]:
    crowded, sparse = _crowded(_DENSE, rng), marks_of([random_scene(rng) for _ in range(_SPARSE)])
    images = np.concatenate([paint(_DENSE, crowded, pool, rng), paint(_SPARSE, sparse, pool, rng)])
    labels = [torch.cat(pair) for pair in zip(_labels(_DENSE, crowded), _labels(_SPARSE, sparse), strict=True)]
    return through_webp(images, rng), *labels


def _patch_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return (losses * weight.flatten()).mean()


def _loss(tower: CLIPVisionModel, heads: PatchHeads, images: NDArray[np.uint8], digit: Tensor, color: Tensor) -> Tensor:
    hidden = tower(pixel_values=to_pixel_values(images).bfloat16()).last_hidden_state
    patches, weight = hidden[:, 1:], torch.where(digit > 0, 1.0, _EMPTY)
    row = torch.arange(GRID).repeat_interleave(GRID).expand_as(digit)
    column = torch.arange(GRID).repeat(GRID).expand_as(digit)
    loss = _patch_loss(heads.digit(patches), digit, weight) + 0.5 * _patch_loss(heads.color(patches), color, weight)
    loss = loss + _POSITION * _patch_loss(heads.row(patches), row, weight)
    loss = loss + _POSITION * _patch_loss(heads.column(patches), column, weight)
    present = torch.cat(
        [F.one_hot(digit, 11).amax(1)[:, 1:], F.one_hot(color, len(COLOR_NAMES) + 1).amax(1)[:, 1:]], 1
    )[_DENSE:]
    summary = heads.summary(hidden[_DENSE:, 0]).float()
    return loss + 0.1 * F.binary_cross_entropy_with_logits(summary, present.float())


@torch.no_grad()
def _accuracy(tower: CLIPVisionModel, heads: PatchHeads) -> str:
    rng = np.random.default_rng(7)
    images, digit, color = _batch(scan_pool("validation"), rng)
    patches = tower(pixel_values=to_pixel_values(images).bfloat16()).last_hidden_state[:, 1:]
    drawn = digit > 0
    digit_hits = (heads.digit(patches).argmax(-1) == digit)[drawn].float()
    color_hits = (heads.color(patches).argmax(-1) == color)[drawn].float()
    return f"digit {digit_hits.mean():.4f} color {color_hits.mean():.4f}"


def train_tower(tower: CLIPVisionModel, seed: int, steps: int = STEPS) -> None:
    """Train the tower in place; it leaves as bfloat16."""
    rng, pool = np.random.default_rng([seed, 1]), scan_pool("train")
    heads = PatchHeads(tower.config.hidden_size)
    tower.set_attn_implementation("eager")  # at this size faster backwards than the fused CPU kernel
    optimizer = MixedOptimizer([tower, heads], adam_rate=2e-3, weight_decay=0.05)
    for step in range(steps):
        loss = _loss(tower, heads, *_batch(pool, rng))
        loss.backward()
        optimizer.step(warm_then_decay(step, steps, warmup=100, constant=0.3))
        if step % 100 == 99:
            print(f"tower step {step + 1} loss {loss.item():.3f} {_accuracy(tower, heads)}", flush=True)
    tower.set_attn_implementation("sdpa")
