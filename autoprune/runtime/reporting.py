"""Making the report of a prefill."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.cache import entries_before, layer_at, pruned_layer
from autoprune.runtime.pruner import Pruner
from autoprune.runtime.report import Report


def make_report(pruner: Pruner, num_layers: int, has_stages: bool, attention_mask: Any) -> Report:
    """What the pass kept, layer by layer."""
    context = pruner.context
    alive = [pruner.alive_at.get(i, context.alive) for i in range(num_layers)]  # a pass without stages notes none
    positions = context.valid.cumsum(1) - 1
    kept = {k: [positions[b, pruner.alive_at[k][b]].cpu() for b in range(context.batch)] for k in sorted(context.fired)}
    return Report(
        active=has_stages and context.is_prefill,
        tokens=torch.stack([a.sum(1) for a in alive]).cpu(),
        visual_tokens=torch.stack([(a & context.visual).sum(1) for a in alive]).cpu(),
        kept=kept,
        kv_entries=torch.stack([_entries(pruner, i, attention_mask) for i in range(num_layers)]).cpu(),
    )


def _entries(pruner: Pruner, i: int, attention_mask: Any) -> Tensor:
    """LongTensor[B]: entries of the samples, fillers and padding excluded, in cache layer `i` after the pass."""
    context = pruner.context
    cached = layer_at(context.cache, i)
    if cached is None:
        return torch.zeros(context.batch, dtype=torch.long, device=context.valid.device)
    total = context.past + context.length
    layer = pruned_layer(context.cache, i)
    if layer is not None:
        _, filled = layer.logical(total)
    elif isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        filled = attention_mask[:, :total].bool()
    else:
        before = torch.ones(context.batch, context.past, dtype=torch.bool, device=context.valid.device)
        filled = torch.cat([before, context.valid], 1)
    held = min(int(cached.keys.shape[-2]), entries_before(context.cache, i, total))
    return filled[:, -held:].sum(1).to(context.valid.device)
