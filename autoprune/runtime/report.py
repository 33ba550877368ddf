"""What a patch did in the last prefill."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Report:
    """What the last prefill kept.

    Attributes:
        active: Whether anything was to prune: False for a text-only prompt and for a schedule without stages.
        tokens: LongTensor[L, B], tokens alive in each layer, text included, padding excluded.
        visual_tokens: LongTensor[L, B], the visual ones among them.
        kept: For each stage's layer and each sample, LongTensor of the positions that are left, visual and text,
            ascending, counted in the sample's own sequence (padding excluded).
        kv_entries: LongTensor[L, B], entries that each layer's cache holds; zero without a cache.
    """

    active: bool = False
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    visual_tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    kv_entries: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
