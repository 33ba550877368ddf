"""VTW's criterion for choosing the layer: how much the answer's distribution moves when visual tokens are withdrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.analysis.tails import run_dense, withdrawn_logits
from autoprune.errors import DataError


def withdrawal_kl(model: nn.Module, samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """KL divergence caused by withdrawing all visual tokens before each layer (VTW, arXiv 2405.05803, `findk`).

    Costs about one dense pass plus short tails per sample, not one pass per layer.

    Args:
        model: A model as `autoprune.apply` takes it.
        samples: Model inputs of one sample each (input_ids, pixel_values … or inputs_embeds), optionally with
            ``visual_mask`` BoolTensor[1, seq].

    Returns:
        FloatTensor[n_samples, L]: KL(withdrawn ‖ dense) over the whole vocabulary at the last prompt token, in nats,
        fp32; column k is withdrawal before layer k.

    Raises:
        DataError: no samples, or a sample without visual tokens or with more than one row.
    """
    if not samples:
        raise DataError("needs at least one sample", field="samples", value=len(samples))
    rows = []
    for sample in samples:
        inputs = dict(sample)
        run = run_dense(model, inputs, inputs.pop("visual_mask", None))
        dense = run.logits.float().log_softmax(-1)
        withdrawn = withdrawn_logits(model, run).float().log_softmax(-1)
        rows.append((withdrawn.exp() * (withdrawn - dense)).sum(-1))
    return torch.stack(rows).cpu()
