"""How visual tokens are told apart: the criteria that a stage may name."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from autoprune.errors import ScheduleError
from autoprune.schedule.validation import Int, Part, explained


class AttentionCriterion(Part):
    """Attention that a visual token receives, heads reduced first, then the query rows.

    Attributes:
        rows: Query rows that vote: the last prompt token (FastV), the text after the first visual token (HiMAP,
            shallow), the visual tokens alive (HiMAP, deep), all prompt tokens, or ``raters``: the words among `text`
            whose embeddings match the image more than the mean of them (SparseVLM, ICML 2025, section 3.2).
        heads: Reduction over heads.
        reduce: Reduction over rows.
        normalize: ``causal`` divides each column by the number of voting rows that may see it.
        at: ``previous`` reads layer k-1; ``current`` computes query and key of the layer about to run (PyramidDrop).
        combine: A second set of rows: tokens leave first that BOTH sets rank low (FitPrune, AAAI 2025, the
            intersection of its two prefixes). The score is the higher of a token's two ranks.
    """

    name: Literal["attention"] = "attention"
    rows: Literal["last", "text", "visual", "all", "raters"]
    heads: Literal["mean", "max", "sum"] = "mean"
    reduce: Literal["sum", "mean"] = "sum"
    normalize: Literal["none", "causal"] = "none"
    at: Literal["previous", "current"] = "previous"
    combine: Literal["last", "text", "visual", "all"] | None = None

    @model_validator(mode="after")
    def _two_sets(self) -> Self:
        if self.combine == self.rows:
            raise ValueError(f"combine {self.combine!r} names the rows that vote already: name others, or leave it out")
        return self

    @model_validator(mode="after")
    def _one_division(self) -> Self:
        if self.normalize == "causal" and self.reduce == "mean":
            raise ValueError("normalize 'causal' replaces reduce 'mean': leave reduce at 'sum'")
        return self


class EncoderCriterion(Part):
    """Attention inside the vision tower (VisionZip, CVPR 2025): the CLS row, else the mean received."""

    name: Literal["encoder"] = "encoder"


class DiversityCriterion(Part):
    """Max-min cosine distance, chosen greedily farthest first (DivPrune, CVPR 2025)."""

    name: Literal["diversity"] = "diversity"


class CodebookCriterion(Part):
    """Distance to a codebook of redundant prototypes (arXiv 2503.20540): score = -max cosine.

    Attributes:
        path: The codebook, a safetensors file.
        sha256: Digest of that file, in hex.
        prototypes: How many it holds; its price depends on them.
    """

    name: Literal["codebook"] = "codebook"
    path: str
    sha256: str
    prototypes: Annotated[Int, Field(ge=1)] | None = None


class RandomCriterion(Part):
    """Random choice, the same for a sample whatever batch it is in: the control arm."""

    name: Literal["random"] = "random"
    seed: Annotated[Int, Field(ge=0, lt=2**63)] = 0


class UniformCriterion(Part):
    """Evenly spaced tokens: the control arm without chance."""

    name: Literal["uniform"] = "uniform"


Criterion = Annotated[
    AttentionCriterion | EncoderCriterion | DiversityCriterion | CodebookCriterion | RandomCriterion | UniformCriterion,
    Field(discriminator="name"),
]
_CRITERION: TypeAdapter[Criterion] = TypeAdapter(Criterion)
_SHORT_NAMES: dict[str, dict[str, Any]] = {
    **{rows: {"name": "attention", "rows": rows} for rows in ("last", "text", "visual", "all", "raters")},
    **{name: {"name": name} for name in ("encoder", "diversity", "random", "uniform")},
}


def parse_criterion(obj: str | dict[str, Any]) -> Criterion:
    """A criterion from its short name (``text``, ``random`` …) or from its JSON object.

    Raises:
        ScheduleError: unknown name, unknown key or bad value.
    """
    if isinstance(obj, str):
        if obj not in _SHORT_NAMES:
            near = difflib.get_close_matches(obj, _SHORT_NAMES, 1) or sorted(_SHORT_NAMES)
            raise ScheduleError("no such criterion", field="criterion", value=obj, remedy=f"use {' or '.join(near)}")
        obj = _SHORT_NAMES[obj]
    try:
        return _CRITERION.validate_python(obj)
    except ValidationError as error:
        raise explained(error, "criterion") from None
