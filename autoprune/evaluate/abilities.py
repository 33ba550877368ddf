"""Criteria that a loaded model cannot score, found by a pass over one row for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from autoprune.data.samples import SampleSet
from autoprune.errors import ModelError, PatchError, ScheduleError
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.capabilities import layers_without_attention
from autoprune.models.loading import LoadedModel
from autoprune.runtime import apply
from autoprune.schedule import Criterion, Keep, Schedule, Stage


def servable_layers(config: Any, criterion: Criterion) -> list[int]:
    """Layers of a model before which a criterion can stand: what it reads is there."""
    depth, blind = config.get_text_config(decoder=True).num_hidden_layers, layers_without_attention(config)
    return [k for k in range(depth) if criterion.problem_at(k) is None and criterion.layer_read(k) not in blind]


def refused_criteria(loaded: LoadedModel, data: SampleSet, criteria: Sequence[Criterion]) -> dict[str, str]:
    """Reasons by label, of the criteria that the model refuses on the first row.

    Args:
        loaded: The model.
        data: The rows.
        criteria: The criteria; each is tried before the first layer that it can serve.
    """
    inputs = model_inputs(loaded, [data[0]])
    found = {}
    for criterion in criteria:
        layer = next(iter(servable_layers(loaded.config, criterion)), None)
        if layer is None:
            continue
        schedule = Schedule(stages=(Stage(layer=layer, keep=Keep(ratio=0.5), criterion=criterion),))
        try:
            with torch.no_grad(), apply(loaded.model, schedule):
                loaded.model(**inputs)
        except (ModelError, PatchError, ScheduleError) as error:
            found[criterion.label] = error.message
    return found
