"""Scores by plain use of the model: answers by ``generate()`` under the patch, probabilities by a patched forward pass.

It shares no replay and no cache with the evaluator, whose results are checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autoprune.data.samples import SampleSet
from autoprune.evaluate.batch import PreparedBatch
from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.greedy import generate_greedy, padding_token
from autoprune.evaluate.memory import tensor_bytes
from autoprune.evaluate.metrics import EXACT_MATCH, Metric
from autoprune.evaluate.planning import plan_batches
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import Answer, check_finite
from autoprune.evaluate.vision import VisionCounter
from autoprune.models.generation import check_greedy
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.runtime import Patch, apply, record
from autoprune.schedule import Schedule


def generate_and_score(
    loaded: LoadedModel,
    data: SampleSet,
    schedule: Schedule | None = None,
    batch_size: int = 16,
    *,
    max_new_tokens: int = 32,
    metric: Metric = EXACT_MATCH,
) -> list[SampleResult]:
    """Scores a schedule by running the patched model as a user would; the dense model answers beside it.

    Args:
        loaded: The model.
        data: The samples.
        schedule: What is pruned; None = the dense model.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer.
        metric: Judges the answers.

    Returns:
        One result per sample, in the order of the data; all are `decided`.

    Raises:
        EvaluationError: non-finite logits.
        PatchError: the schedule cannot be applied to this model or data.
    """
    check_greedy(loaded.model.generation_config)
    pricer = Pricer(loaded.config, loaded.model.dtype.itemsize)
    vision, dense_pass = VisionCounter(loaded), partial(_dense_pass, loaded.model)
    results: list[SampleResult] = []
    for indices in plan_batches(loaded.processor, data, range(len(data)), batch_size):
        batch = PreparedBatch.prepare(loaded, data, indices, max_new_tokens, dense_pass, vision, metric)
        if schedule is None:
            results += batch.results(Schedule(), batch.dense, [[] for _ in indices], pricer)
            continue
        with apply(loaded.model, schedule) as patch:
            answers, kept = _patched_answers(loaded, batch, patch, max_new_tokens)
        results += batch.results(schedule, answers, kept, pricer)
    return sorted(results, key=lambda result: result.index)


@dataclass(frozen=True)
class _PlainPass:
    """A dense forward pass of which nothing is kept but its logits and where its visual tokens are."""

    logits: Tensor
    visual_mask: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of logits and mask."""
        return tensor_bytes(self.logits, self.visual_mask)


def _dense_pass(model: Any, inputs: Mapping[str, Any], forced: Forced) -> _PlainPass:
    with record(model, ()) as recording, recording.prompt(forced.ends):
        logits = _forward(model, forced)
    return _PlainPass(logits, recording.visual_mask)


def _patched_answers(
    loaded: LoadedModel, batch: PreparedBatch[_PlainPass], patch: Patch, max_new_tokens: int
) -> tuple[list[Answer], list[list[int]]]:
    """Answers of the patched model, and for each sample the visual tokens alive after each stage."""
    with patch.prompt(batch.forced.ends):
        logits = _forward(loaded.model, batch.forced)
    check_finite(logits, batch.forced)
    alive = patch.report.visual_tokens.tolist()
    kept = batch.kept(patch.schedule, {stage.layer: alive[stage.layer] for stage in patch.schedule.stages})
    if batch.has_choices:
        return batch.choice_answers(logits), kept
    padding = padding_token(loaded.model, loaded.processor)
    tokens = generate_greedy(loaded.model, batch.inputs, max_new_tokens, padding).tokens
    return batch.text_answers(tokens, batch.kl(logits), [True] * len(tokens)), kept


def _forward(model: Any, forced: Forced) -> Tensor:
    positions = model._prepare_position_ids_for_generation(forced.inputs["input_ids"], forced.inputs)
    with torch.no_grad():
        logits: Tensor = model(
            **forced.inputs, position_ids=positions, use_cache=False, logits_to_keep=forced.width
        ).logits[:, -forced.width :]  # some models give all columns
    return logits
