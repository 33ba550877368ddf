"""FitPrune (AAAI 2025, arXiv 2409.10197): a recipe for every layer from attention statistics, under a FLOPs budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.environment import versions
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer, flops_ratio
from autoprune.pricing.tokens import PromptCounts, count_prompts
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.recording import record
from autoprune.schedule import AttentionCriterion, Keep, Schedule, Stage
from autoprune.schedule.evidence import measured_evidence

CROSS = AttentionCriterion(rows="text", heads="max", reduce="mean")
SELF = AttentionCriterion(rows="visual", heads="max", reduce="mean")
CRITERION = AttentionCriterion(rows="text", heads="max", reduce="mean", combine="visual")
"""Criterion of every stage of the recipe: tokens that both kinds of attention rank low leave first."""
_STEPS = 20


@dataclass(frozen=True)
class Statistics:
    """Attention that the visual tokens of one sample receive in the dense model, FloatTensors[stages, n_visual]."""

    cross: Tensor
    own: Tensor


@dataclass(frozen=True)
class Recipe:
    """A schedule in FitPrune's sense, and the figures it follows from.

    Attributes:
        schedule: One stage before each layer at which tokens leave; evidence holds data, budget and tolerance.
        keep: {layer: share of the visual tokens that is left}, mean over the samples.
        tolerance: Share of a layer's attention that may leave (the paper's alpha).
        flops_ratio: Prefill FLOPs over dense, summed over the samples.
    """

    schedule: Schedule
    keep: dict[int, float]
    tolerance: float
    flops_ratio: float


def fit_recipe(
    loaded: LoadedModel,
    data: SampleSet,
    *,
    budget: float = 0.5,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> Recipe:
    """The recipe that spends at most `budget` of the dense prefill FLOPs and loses the least attention.

    In each layer the tokens leave that are in the longest prefix of BOTH lists, by text→image and by image→image
    attention, whose removal costs at most a share alpha of what the layer gave in the dense model; alpha is bisected.
    Deviations: what left in earlier layers counts as lost in later ones too; tokens leave before the next layer, where
    the paper drops them between attention and feed-forward; the recipe holds shares, so that it fits any number of
    visual tokens.

    Args:
        loaded: The model.
        data: A few rows; the paper takes 0.01 % of an instruction data set.
        budget: Prefill FLOPs over dense.
        on_sample: Called with (rows done, rows).

    Raises:
        DataError: the budget is out of range or below what any recipe costs, or a row has no visual token.
    """
    if not 0 < budget < 1:
        raise DataError("must lie between 0 and 1", field="budget", value=budget, remedy="0.5 halves the prefill FLOPs")
    decoder = find_decoder(loaded.model)
    layers = decoder_layers(decoder)
    scored = [k for k in range(1, len(layers)) if attention_of(decoder, layers[k - 1]) is not None]
    if not scored:
        raise DataError("no layer is preceded by one with attention", field="model", value=loaded.name)
    statistics: list[Statistics] = []
    prompts: list[PromptCounts] = []
    for done, sample in enumerate(data, start=1):
        inputs = model_inputs(loaded, [sample])
        found, visual = attention_statistics(loaded.model, inputs, scored)
        if not bool(visual.any()):
            raise DataError(f"row {sample.id} has no visual token", field="data", remedy="give rows with an image")
        statistics.append(found)
        ends = torch.tensor([visual.shape[1]])
        prompts += count_prompts(inputs, ends, visual, [1])
        on_sample(done, len(data))
    pricer = Pricer(loaded.config, loaded.model.dtype.itemsize)

    def price(schedule: Schedule) -> float:
        return flops_ratio([pricer.price(schedule, counts, _counts(schedule, counts.visual)) for counts in prompts])

    low, high = 0.0, 1.0
    cheapest = price(_schedule(_shares(statistics, scored, high)))
    if cheapest > budget:
        raise DataError(
            f"no recipe is that cheap: with one visual token left after layer {scored[0] - 1} it is {cheapest:.3f}",
            field="budget",
            value=budget,
            remedy=f"give at least {cheapest:.3f}, or prune before layer 0 with another method",
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fits = price(_schedule(_shares(statistics, scored, middle))) <= budget
        low, high = (low, middle) if fits else (middle, high)
    keep = _shares(statistics, scored, high)
    schedule = _schedule(keep)
    evidence = measured_evidence(
        "autoprune fitprune",
        data=data.name,
        data_digest=data.digest,
        samples=len(data),
        **loaded.measured_in,
        model_fingerprint=loaded.fingerprint,
        versions=versions(),
        preset="fitprune",
        budget=budget,
        tolerance=high,
        flops_ratio=price(schedule),
    )
    stamped = Schedule(stages=schedule.stages, evidence=evidence).with_model(loaded.config, loaded.name)
    return Recipe(stamped, keep, high, price(schedule))


def kept_after(statistics: Statistics, tolerance: float) -> list[int]:
    """Visual tokens of one sample that are left after each stage; at least one."""
    alive = torch.ones(statistics.cross.shape[1], dtype=torch.bool, device=statistics.cross.device)
    left = []
    for cross, own in zip(statistics.cross, statistics.own, strict=True):
        leaving = alive & _prefix(cross, alive, tolerance) & _prefix(own, alive, tolerance)
        if bool(leaving.equal(alive)):
            best = torch.where(alive, cross, -1.0).argmax()
            leaving[best] = False
        alive = alive & ~leaving
        left.append(int(alive.sum()))
    return left


def _prefix(scores: Tensor, alive: Tensor, tolerance: float) -> Tensor:
    """The lowest tokens whose removal, with all that is gone, costs at most `tolerance` of the sum: BoolTensor[n]."""
    scores = scores.double()
    order = torch.where(alive, scores, -1.0).argsort(stable=True)  # what is gone comes first
    lost = scores[order].cumsum(0)
    within = torch.zeros_like(alive)
    within[order] = lost <= tolerance * lost[-1]
    return within


def attention_statistics(model: Any, inputs: Mapping[str, Any], scored: Sequence[int]) -> tuple[Statistics, Tensor]:
    """Attention that the visual tokens of one sample receive in the layers before `scored`; their mask [1, S].

    Heads are reduced by their maximum, voting rows by their mean (the authors' code).

    Args:
        model: The model, not patched.
        inputs: Of one sample.
        scored: Layers of the stages, 1 or deeper.
    """
    keys = [(k, criterion) for k in scored for criterion in (CROSS, SELF)]
    with torch.no_grad(), record(model, keys) as recording:
        model(**inputs, use_cache=False, logits_to_keep=1)
    visual = recording.visual_mask
    if not bool(visual.any()):
        return Statistics(torch.zeros(0, 0), torch.zeros(0, 0)), visual
    cross, own = (torch.stack([recording.scores[k, c][0, visual[0]] for k in scored]) for c in (CROSS, SELF))
    return Statistics(cross, own), visual


def _shares(statistics: Sequence[Statistics], scored: Sequence[int], tolerance: float) -> dict[int, float]:
    """{layer: mean share left} for each layer at which it falls."""
    shares = (
        torch.tensor([[n / s.cross.shape[1] for n in kept_after(s, tolerance)] for s in statistics]).double().mean(0)
    )
    before, keep = 1.0, {}
    for layer, share in zip(scored, shares.tolist(), strict=True):
        if share < before:
            keep[layer] = before = share
    return keep


def _schedule(keep: dict[int, float]) -> Schedule:
    stages = [Stage(layer=k, keep=Keep(ratio=share), criterion=CRITERION) for k, share in keep.items()]
    return Schedule(stages=tuple(stages))


def _counts(schedule: Schedule, visual: int) -> list[int]:
    alive, counts = visual, []
    for stage in schedule.stages:
        alive = stage.keep.target(visual, alive)
        counts.append(alive)
    return counts
