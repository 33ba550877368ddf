"""Cosine similarity that is the same for a pair of vectors in whatever batch it is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all pairs, FloatTensor[..., m, n].

    Worked out in double precision and rounded to single: kernels of other shapes then give the same bits, equal vectors
    have a similarity of exactly 1, and ties stay ties. Devices without double precision (MPS) compute in single.

    Args:
        a: [..., m, d].
        b: [..., n, d], with the leading axes of `a` or none.
    """
    exact = torch.float32 if a.device.type == "mps" else torch.float64
    unit, other = normalize(a.to(exact), dim=-1), normalize(b.to(exact), dim=-1)
    return (unit @ other.transpose(-1, -2)).float()
