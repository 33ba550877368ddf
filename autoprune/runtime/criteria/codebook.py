"""Behaviour of ``codebook``: how unlike redundant prototypes tokens are (arXiv 2503.20540)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprune.errors import ScheduleError
from autoprune.runtime.codebook import read_prototypes
from autoprune.runtime.criteria import ScoreInputs, ScoreWork
from autoprune.runtime.exact import cosine
from autoprune.runtime.survivors import places, take
from autoprune.schedule import CodebookCriterion


def prepare(options: CodebookCriterion, width: int, model: nn.Module) -> Tensor:
    """The prototypes [P, d], read once when a schedule is applied."""
    return read_prototypes(options, width, model)


def score(inputs: ScoreInputs) -> Tensor:
    """Minus the largest cosine to a prototype, in [-1, 1]."""
    assert inputs.prepared is not None  # apply() has read the prototypes
    index = places(inputs.candidates, max(inputs.n_candidates))
    features = take(inputs.hidden, index, 1)
    nearest = cosine(features, inputs.prepared.to(features.device)).amax(2)
    scores = torch.zeros(inputs.candidates.shape, device=index.device)
    return scores.scatter_(1, index, -nearest.to(index.device))


def macs(work: ScoreWork, options: CodebookCriterion) -> int:
    """One product of each candidate with each prototype.

    Raises:
        ScheduleError: the number of prototypes is not known.
    """
    if options.prototypes is None:
        raise ScheduleError(
            "cannot be priced without the number of prototypes",
            field="criterion.prototypes",
            remedy="name it in the schedule",
        )
    return work.candidates * options.prototypes * work.width
