"""A codebook from a data set: visual tokens probed, thresholds and prototypes by the rule, and its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from autoprune.analysis.codebook.measures import TokenMeasures, Variant, measure, places
from autoprune.analysis.codebook.neighbours import neighbourhoods
from autoprune.analysis.codebook.prompt import ProbedPrompt
from autoprune.analysis.codebook.rule import QUANTILE, prototypes, redundant, thresholds
from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.environment import versions
from autoprune.models.loading import LoadedModel
from autoprune.runtime.codebook import FORMAT, VERSION, write_prototypes
from autoprune.runtime.projector import projector_digest
from autoprune.schedule import CodebookCriterion, Keep, Schedule, Stage
from autoprune.schedule.evidence import measured_evidence
from autoprune.schedule.files import write_whole

PROBES, LIMIT = 96, 512


@dataclass(frozen=True)
class Codebook:
    """Prototypes of redundant visual tokens, and how they were found.

    Attributes:
        prototypes: HalfTensor[P, d], of length 1; only directions are compared.
        facts: Content of the JSON beside the file: model, data, settings and counts.
    """

    prototypes: Tensor
    facts: dict[str, Any]

    def save(self, path: Path) -> CodebookCriterion:
        """Write the codebook and, beside it, the JSON; returns the criterion that uses it."""
        criterion = write_prototypes(path, self.prototypes, self.facts["projector_sha256"])
        facts = {**self.facts, "sha256": criterion.sha256}
        write_whole(beside(path), json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        return criterion

    def schedule(self, loaded: LoadedModel, criterion: CodebookCriterion, keep: float) -> Schedule:
        """The schedule that keeps this share of the visual tokens before layer 0, those least like the prototypes."""
        stage = Stage(layer=0, keep=Keep(ratio=keep), criterion=criterion)
        names = ("data", "data_digest", "samples", "model_fingerprint", "versions")
        known = {**loaded.measured_in, **{k: self.facts[k] for k in names}}
        evidence = measured_evidence("autoprune codebook", preset="codebook", **known)
        return Schedule(stages=(stage,), evidence=evidence).with_model(loaded.config, loaded.name)


def beside(path: Path) -> Path:
    """The JSON of a codebook."""
    return path.with_suffix(".json")


def checked_variant(name: str, quantile: float, data: SampleSet) -> Variant:
    """The variant of this name, after a look at whether these rows can make a codebook.

    Raises:
        DataError: no such variant, a quantile out of range, or rows of one image only.
    """
    known: Variant | None = next((v for v in get_args(Variant) if v == name), None)
    if known is None:
        raise DataError("no such variant", field="variant", value=name, remedy=f"use {' or '.join(get_args(Variant))}")
    if not 0 < quantile < 1:
        raise DataError("must lie between 0 and 1", field="quantile", value=quantile, remedy=f"{QUANTILE} is usual")
    if len({sample.group for sample in data}) < 2:
        raise DataError(
            "what recurs in other images cannot be told from one",
            field="samples",
            value=len(data),
            remedy="give rows of more images; rows of one `group` count as one",
        )
    return known


def build_codebook(
    loaded: LoadedModel,
    data: SampleSet,
    *,
    variant: Variant = "sound",
    probes: int = PROBES,
    quantile: float = QUANTILE,
    clusters: int | None = None,
    limit: int = LIMIT,
    prompt: str | None = None,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> Codebook:
    """A codebook of visual tokens that are redundant in any image (arXiv 2503.20540).

    Args:
        loaded: The model.
        data: The rows; their answers are not used.
        variant: ``sound``, or ``paper`` for the measures of the released code, see `measures`. Its
            choice of thresholds and clusters by hand is replaced by the rule in both. An answer that starts with an
            article is taken as it is, where the released code looks at the next word.
        probes: Visual tokens to probe in each image; the paper's 96.
        quantile: Of the null, see `rule.thresholds`.
        clusters: How many; None = the square root of the number of probed tokens.
        limit: Most prototypes.
        prompt: Question for every image, in place of the row's own; the paper asks for one word.
        on_sample: Called with (rows done, rows).

    Raises:
        DataError: a row has no visual token, no codebook follows from these rows, or as `checked_variant`.
        EvaluationError: a logit is not finite.
        ModelError: the model's prompts cannot be cut, or the variant needs a pad token that it lacks.
    """
    checked_variant(variant, quantile, data)
    projector = projector_digest(loaded.model)
    pad = _pad(loaded) if variant == "paper" else None
    measured = []
    for done, sample in enumerate(data, start=1):
        asked = sample if prompt is None else replace(sample, prompt=prompt)
        measured.append(_measure(loaded, asked, pad, variant, probes))
        on_sample(done, len(data))
    bounds = thresholds(measured, quantile)
    flags = redundant(measured, bounds)
    features = torch.cat([m.features for m in measured])
    groups = [sample.group for sample, m in zip(data, measured, strict=True) for _ in m.features]
    taken = prototypes(features, flags, groups, clusters, limit)
    unit = torch.nn.functional.normalize(features[taken.tokens], dim=1)
    origin = [number for number, m in enumerate(measured) for _ in m.features]
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "model": loaded.name,
        "model_fingerprint": loaded.fingerprint,
        "projector_sha256": projector,
        "hidden_size": unit.shape[1],
        "prototypes": len(unit),
        "variant": variant,
        "thresholds": bounds,
        "quantile": quantile,
        "rule": "at or below the quantile of tokens that say nothing, by every measure; in a cluster, of at "
        "least two images, of which surely more than half is redundant",
        "noise": max(m.noise for m in measured),
        "data": data.name,
        "data_digest": data.digest,
        "samples": len(data),
        "prompt": prompt,
        "probed": len(features),
        "redundant": taken.redundant,
        "clusters": taken.clusters[0],
        "context_independent_clusters": taken.clusters[1],
        "forwards_per_image": max(m.forwards for m in measured),
        "image_of_prototype": [origin[i] for i in taken.tokens.tolist()],
        "images": [[image.sha256 for image in sample.images] for sample in data],
        "versions": versions(),
    }
    return Codebook(unit.half().cpu(), facts)


def _measure(loaded: LoadedModel, sample: Sample, pad: Tensor | None, variant: Variant, probes: int) -> TokenMeasures:
    inputs = model_inputs(loaded, [sample])
    merge = getattr(getattr(loaded.config, "vision_config", None), "spatial_merge_size", 1)
    try:
        run = ProbedPrompt(loaded.model, inputs, pad)
    except DataError as error:
        raise DataError(f"row {sample.id} {error.message}", field="data", remedy=error.remedy) from error
    around = neighbourhoods(inputs, run.visual, merge)
    return measure(run, around, places(run.features, probes), variant)


def _pad(loaded: LoadedModel) -> Tensor:
    number = loaded.processor.tokenizer.pad_token_id
    if number is None:
        raise ModelError(
            "its tokenizer has no pad token to put in place of visual tokens",
            field="model",
            value=loaded.name,
            remedy="use the variant sound, which removes them",
        )
    with torch.no_grad():
        embed = loaded.model.get_input_embeddings()
        embedding: Tensor = embed(torch.tensor([number], device=loaded.model.device))[0]
    return embedding
