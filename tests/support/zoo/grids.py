"""Inputs of the families that read images of any size as one row of patches, with a grid for each image."""

from __future__ import annotations

import torch
from support.zoo.base import AFTER, BEFORE, IMAGE, VIDEO, Plan, count, noise, prompts
from torch import Tensor

_IMAGES = [[1, 8, 8], [1, 4, 8], [1, 8, 4]]
_VIDEOS = [[3, 4, 8], [2, 4, 4], [2, 8, 4]]
MERGED = 4
"""Patches in a token."""


def grid_inputs(plan: Plan, width: int, video: bool = False, frame_by_frame: bool = False) -> dict[str, Tensor]:
    """A batch of images or videos with unequal numbers of tokens.

    Args:
        plan: Images or videos of each sample.
        width: Numbers in a patch.
        video: Whether they are videos.
        frame_by_frame: Whether each frame of a video stands between its own marks, with text before the next.
    """
    grids = torch.tensor(_VIDEOS if video else _IMAGES)[: count(plan)]
    runs = [(h * w // MERGED,) * t if frame_by_frame else (t * h * w // MERGED,) for t, h, w in grids.tolist()]
    starts = [sum(map(len, runs[:i])) for i in range(len(runs))]
    shown = [[starts[i] + j for i in images for j in range(len(runs[i]))] for images in plan]
    placeholder = VIDEO if video else IMAGE
    batch = prompts([n for run in runs for n in run], shown, [BEFORE], [AFTER], placeholder)
    pixels, sizes = ("pixel_values_videos", "video_grid_thw") if video else ("pixel_values", "image_grid_thw")
    return {
        **batch,
        pixels: noise(int(grids.prod(1).sum()), width),
        sizes: grids,
        "mm_token_type_ids": (batch["input_ids"] == placeholder).int() * (2 if video else 1),
    }


def patch_width(vision_config: object) -> int:
    """Numbers in a patch: colours, frames, pixels."""
    return 3 * vision_config.temporal_patch_size * vision_config.patch_size**2
