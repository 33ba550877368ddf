"""Scores by the attention of the vision tower, for samples that take several rows: read once, as images are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune.evaluate.repeats import RepeatedRows
from autoprune.runtime import ScoreKey, record


@dataclass(frozen=True)
class TowerScores:
    """Scores of the visual tokens of samples, each in the order of its prompt.

    Attributes:
        owners: For each row the place of its sample.
        of_samples: For each sample and key, FloatTensor[visual tokens].
    """

    owners: Sequence[int]
    of_samples: Sequence[Mapping[ScoreKey, Tensor]]

    def laid_out(self, visual: Tensor) -> dict[ScoreKey, Tensor]:
        """FloatTensor[B, S] by key, for rows with their visual tokens at BoolTensor[B, S]; 0 elsewhere."""
        found = {}
        for key in self.of_samples[0]:
            each = torch.cat([self.of_samples[owner][key] for owner in self.owners])
            found[key] = each.new_zeros(visual.shape).masked_scatter(visual.to(each.device), each)
        return found


def rows_scored_once(model: Any, rows: RepeatedRows, keys: Sequence[ScoreKey]) -> TowerScores:
    """Runs each sample once, with its images by themselves; within `shared_features` they are not encoded again.

    Args:
        model: The model, not patched.
        rows: Rows whose images can be told apart by sample.
        keys: Scores that read the tower.
    """
    found = []
    with torch.no_grad(), record(model, keys) as recording:
        for place, visual in enumerate(rows.visual):
            row = rows.owners.index(place)
            text = {name: value[row : row + 1] for name, value in rows.inputs.items() if name not in visual}
            model(**text, **visual, use_cache=False, logits_to_keep=1)
            found.append({key: scores[recording.visual_mask] for key, scores in recording.scores.items()})
    return TowerScores(rows.owners, found)
