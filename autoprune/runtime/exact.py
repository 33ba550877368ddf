"""Arithmetic whose result does not depend on the batch that it is computed in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def exact_dtype(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it (MPS has not).

    What is summed in it and rounded to single is the same in whatever order a kernel sums, so that ties stay ties.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all pairs, FloatTensor[..., m, n].

    Worked out in double precision and rounded to single: kernels of other shapes then give the same bits, equal vectors
    have a similarity of exactly 1, and ties stay ties.

    Args:
        a: [..., m, d].
        b: [..., n, d], with the leading axes of `a` or none.
    """
    exact = exact_dtype(a.device)
    unit, other = normalize(a.to(exact), dim=-1), normalize(b.to(exact), dim=-1)
    return (unit @ other.transpose(-1, -2)).float()
