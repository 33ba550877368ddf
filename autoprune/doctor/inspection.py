"""Inspection of a schedule on a model: one pruned prefill, to see that it is really active and comes off again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from autoprune.data.rows import Sample
from autoprune.data.synthetic import synthetic_sample
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.pricing.tokens import count_prompts
from autoprune.runtime import apply, record
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class Inspection:
    """Effects of one pruned prefill.

    Attributes:
        fired: Whether every stage ran; False only for a schedule without stages.
        undone: Whether the logits after ``remove()`` are bit-identical to those before ``apply()``.
        visual_tokens: Visual tokens of the prompt.
        text_tokens: All other tokens of the prompt.
        tokens: Tokens alive in each decoder layer.
        visual_alive: The visual ones among them.
        kv_entries: Cache entries of each decoder layer.
        flops_ratio: Prefill FLOPs over dense for this prompt.
        kv_ratio: KV bytes over dense for this prompt.
        max_logit_change: Largest change of a logit at the last prompt token.
        same_first_token: Whether the first answer token is still the dense model's.
    """

    fired: bool
    undone: bool
    visual_tokens: int
    text_tokens: int
    tokens: list[int]
    visual_alive: list[int]
    kv_entries: list[int]
    flops_ratio: float
    kv_ratio: float
    max_logit_change: float
    same_first_token: bool

    def to_dict(self) -> dict[str, Any]:
        """The inspection as a JSON object."""
        return asdict(self)


def inspect_schedule(loaded: LoadedModel, schedule: Schedule, sample: Sample | None = None) -> Inspection:
    """Run a dense prefill, a pruned one, and a dense one again after the undo.

    Args:
        loaded: The model.
        schedule: The schedule to inspect.
        sample: A real question; None = a made-up image with a short question.

    Raises:
        ModelError: the schedule is not for this model.
        PatchError: a stage could not run.
    """
    schedule.check_model(loaded.config)
    model = loaded.model
    inputs = model_inputs(loaded, [sample or synthetic_sample(loaded.config)])
    with record(model, ()) as recording:
        dense = _last_logits(model, inputs)
    with apply(model, schedule) as patch:
        pruned, report = _last_logits(model, inputs), patch.report
    again = _last_logits(model, inputs)
    ends = torch.tensor([inputs["input_ids"].shape[1]])
    counts = count_prompts(inputs, ends, recording.visual_mask, [1])[0]
    alive = report.visual_tokens[:, 0].tolist()
    kept = [alive[stage.layer] for stage in schedule.stages]
    price = Pricer(loaded.config, model.dtype.itemsize).price(schedule, counts, kept)
    return Inspection(
        fired=report.active and set(report.kept) == {s.layer for s in schedule.stages},
        undone=torch.equal(dense, again),
        visual_tokens=counts.visual,
        text_tokens=counts.text,
        tokens=report.tokens[:, 0].tolist(),
        visual_alive=alive,
        kv_entries=report.kv_entries[:, 0].tolist(),
        flops_ratio=price.ratio,
        kv_ratio=price.kv_ratio,
        max_logit_change=float((pruned - dense).abs().max()),
        same_first_token=bool(pruned.argmax() == dense.argmax()),
    )


def _last_logits(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs, use_cache=True, logits_to_keep=1).logits
    return logits.float().cpu()
