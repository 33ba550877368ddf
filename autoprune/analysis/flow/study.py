"""HiMAP's analysis of a data set: saliency and edge ablation, as curves over all samples and by task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from autoprune.analysis.flow.curves import cut_curves, flow_curves
from autoprune.analysis.flow.edge_ablation import CUTS
from autoprune.analysis.flow.interventions import intervene
from autoprune.analysis.flow.proposal import ProposedLayers, propose
from autoprune.analysis.flow.saliency import flow_saliency
from autoprune.analysis.flow.targets import find_targets
from autoprune.analysis.refusals import check_eval
from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.encoding import force, model_inputs
from autoprune.evaluate.greedy import padding_token
from autoprune.evaluate.planning import plan_batches
from autoprune.evaluate.statistics import Array, Curve, check_groups
from autoprune.models.environment import versions
from autoprune.models.generation import check_greedy
from autoprune.models.loading import LoadedModel
from autoprune.presets import himap
from autoprune.runtime.decoder import decoder_layers, find_decoder, visual_token_ids
from autoprune.schedule import Schedule
from autoprune.schedule.evidence import measured_evidence

Loss = Literal["first", "answer"]


@dataclass(frozen=True)
class FlowSummary:
    """Curves over layers, accuracy and proposed layers of some samples.

    Attributes:
        samples: Number of samples.
        accuracy: Of the dense model.
        probability: Of the right answer in the dense model, mean over samples.
        flows: Curves by measure (`curves.MEASURES`) and direction (`curves.DIRECTIONS`).
        cuts: Curves by cut (`edge_ablation.CUTS`), arm (``cut``, ``random``, ``beyond_random``) and metric
            (``accuracy_drop``, ``probability_drop``, ``kl``).
        proposal: Layers that the rule proposes for HiMAP's stages.
    """

    samples: int
    accuracy: float
    probability: float
    flows: dict[str, dict[str, Curve]]
    cuts: dict[str, dict[str, dict[str, Curve]]]
    proposal: ProposedLayers


@dataclass(frozen=True)
class FlowAnalysis:
    """HiMAP's analysis of one model on one data set.

    Attributes:
        data: Name of the rows.
        data_digest: Their digest.
        layers: Number of decoder layers.
        loss: ``first``: of the first token of the right answer, as HiMAP; ``answer``: mean over all its tokens.
        window: Number of layers in which edges are cut, from layer k on; None = all deeper ones.
        silent: Number of samples whose loss has no gradient; they are left out of the flows.
        overall: Summary of all samples.
        tasks: Summary of each task that has samples of at least two groups.
    """

    data: str
    data_digest: str
    layers: int
    loss: Loss
    window: int | None
    silent: int
    overall: FlowSummary
    tasks: dict[str, FlowSummary]

    def schedule(self, loaded: LoadedModel) -> Schedule:
        """The proposed HiMAP schedule with its evidence.

        Raises:
            EvaluationError: the curves propose none.
        """
        proposal = self.overall.proposal
        first, second = proposal.checked_layers()
        evidence = measured_evidence(
            "autoprune flow",
            data=self.data,
            data_digest=self.data_digest,
            samples=self.overall.samples,
            **loaded.measured_in,
            model_fingerprint=loaded.fingerprint,
            versions=versions(),
            preset="himap",
            rule="before the first layer from which on at most the kept share of the visual flow is to come",
            flow_to_come=[proposal.to_text.mean[first], proposal.to_all.mean[second]],
            loss=self.loss,
        )
        made = himap((first, second), proposal.keep)
        return Schedule(stages=made.stages, evidence=evidence).with_model(loaded.config, loaded.name)

    def to_dict(self) -> dict[str, Any]:
        """The analysis as a JSON object."""
        found = asdict(self)
        return {**found, **found.pop("overall")}


def analyse_flow(
    loaded: LoadedModel,
    data: SampleSet,
    *,
    loss: Loss = "first",
    window: int | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    on_step: Callable[[str], None] = lambda step: None,
) -> FlowAnalysis:
    """Information flow between image and text (HiMAP, CVPR 2025, arXiv 2503.13108), and the effect of cutting it.

    Saliency costs about three passes over each sample; the cuts cost 4·(L+1)/2 dense passes, layers before the first
    cut one being reused.

    Args:
        loaded: The model, in eval mode.
        data: Samples of at least two groups.
        loss: See `FlowAnalysis`.
        window: See `FlowAnalysis`.
        batch_size: Rows of a batch of the edge ablation.
        max_new_tokens: Longest answer.
        on_step: Called with the name of each step before it runs.

    Raises:
        DataError: fewer than two groups, a sample without visual tokens or without text after them, or no sample whose
            loss has a gradient.
        EvaluationError: a loss or a logit is not finite.
        ModelError: the model is in training mode, or not supported.
        PatchError: the model is pruned.
    """
    model = loaded.model
    check_eval(model)
    check_greedy(model.generation_config)
    depth = len(decoder_layers(find_decoder(model)))
    if window is not None and not 1 <= window <= depth:
        raise ModelError(f"must be 1 to {depth}, the layers of this model", field="window", value=window)
    groups = [sample.group for sample in data]
    check_groups(groups)
    measured = _Measured.empty(len(data), depth)
    batches = plan_batches(loaded.processor, data, range(len(data)), batch_size)
    done = 0
    for indices in batches:
        samples = [data[index] for index in indices]
        place = f"rows {done + 1} to {done + len(indices)} of {len(data)}"
        on_step(f"{place}: flows")
        inputs = model_inputs(loaded, samples)
        _check_visual(inputs, samples, visual_token_ids(model.config))
        targets = find_targets(loaded, samples, inputs, max_new_tokens)
        padding = padding_token(model, loaded.processor)
        for index, target in zip(indices, targets, strict=True):
            alone = model_inputs(loaded, [data[index]])
            found = flow_saliency(model, force(model, alone, [target.tokens(loss)], padding))
            measured.flows[index], measured.tokens[index] = found.flows[0], found.tokens[0]
        on_step(f"{place}: cuts in {depth} layers, beside random ones")
        cuts = intervene(loaded, samples, targets, indices, window)
        for name in ("dense", "cut", "control"):
            getattr(measured, name)[list(indices)] = getattr(cuts, name).double().numpy()
        done += len(indices)
    return _summed_up(measured, data, depth, loss, window)


@dataclass(frozen=True)
class _Measured:
    """Figures of each sample: saliency by layer and kinds of token, numbers of tokens, and METRICS of each run."""

    flows: Array
    tokens: Array
    dense: Array
    cut: Array
    control: Array

    @classmethod
    def empty(cls, samples: int, layers: int) -> _Measured:
        cuts = (samples, len(CUTS), layers, 3)
        shapes = ((samples, layers, 2, 2), (samples, 2), (samples, 3), cuts, cuts)
        return cls(*(np.zeros(shape) for shape in shapes))


def _check_visual(inputs: dict[str, Any], samples: Sequence[Sample], visual_ids: Sequence[int]) -> None:
    ids = inputs["input_ids"]
    blind = ~torch.isin(ids, torch.tensor(visual_ids, device=ids.device)).any(1)
    if visual_ids and bool(blind.any()):
        raise DataError(
            f"row {samples[int(blind.nonzero()[0])].id} has no visual token",
            field="data",
            remedy="check that the processor's chat template puts the images into the prompt",
        )


def _summed_up(measured: _Measured, data: SampleSet, depth: int, loss: Loss, window: int | None) -> FlowAnalysis:
    groups = [sample.group for sample in data]
    speaks = np.nansum(measured.flows, axis=(1, 2, 3)) > 0

    def part(indices: Sequence[int]) -> FlowSummary | None:
        heard = [i for i in indices if speaks[i]]
        if len({groups[i] for i in heard}) < 2:
            return None
        mine, theirs = [groups[i] for i in indices], [groups[i] for i in heard]
        chosen = list(indices)
        dense = measured.dense[chosen]
        return FlowSummary(
            samples=len(chosen),
            accuracy=float(dense[:, 0].mean()),
            probability=float(dense[:, 1].mean()),
            flows=flow_curves(measured.flows[heard], measured.tokens[heard], theirs),
            cuts={
                cut: cut_curves(dense, measured.cut[chosen, number], measured.control[chosen, number], mine)
                for number, cut in enumerate(CUTS)
            },
            proposal=propose(measured.flows[heard], theirs),
        )

    overall = part(range(len(data)))
    if overall is None:
        raise DataError(
            "the loss of nearly all samples has no gradient: the model is sure beyond its precision",
            field="data",
            value=f"{int(speaks.sum())} of {len(data)} samples",
            remedy="give harder samples, or load the model in float32",
        )
    names = sorted({sample.task for sample in data if sample.task is not None})
    tasks = {name: part([i for i, sample in enumerate(data) if sample.task == name]) for name in names}
    return FlowAnalysis(
        data=data.name,
        data_digest=data.digest,
        layers=depth,
        loss=loss,
        window=window,
        silent=int((~speaks).sum()),
        overall=overall,
        tasks={name: found for name, found in tasks.items() if found is not None},
    )
