"""Criterion ``attention``: the attention that a visual token receives in a decoder layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from autoprune.schedule.criteria.declaration import COUNTS, Color, Criterion, KeepKind, Reads, labelled

Rows = Literal["last", "text", "visual", "all", "raters"]
_PHRASES: dict[str, str] = {
    "last": "attention of the last prompt token",
    "text": "attention of the text",
    "visual": "attention of the image itself",
    "all": "attention of all tokens",
    "raters": "attention of the words that match the image",
}
_COLORS: dict[str, Color] = {
    "last": Color("#d17a00", "#f0ad4e"),
    "text": Color("#0b5fa5", "#62b3f2"),
    "visual": Color("#0a7f63", "#3fc4a1"),
    "all": Color("#8a4fa3", "#c08fd8"),
    "raters": Color("#2f7f8f", "#6cc5d6"),
}
_COMBINED = Color("#5a6b1f", "#b5c766")


class AttentionCriterion(Criterion):
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
    rows: Rows
    heads: Literal["mean", "max", "sum"] = "mean"
    reduce: Literal["sum", "mean"] = "sum"
    normalize: Literal["none", "causal"] = "none"
    at: Literal["previous", "current"] = "previous"
    combine: Literal["last", "text", "visual", "all"] | None = None

    source: ClassVar[str] = "FastV, ECCV 2024; HiMAP, CVPR 2025; PyramidDrop, CVPR 2025; SparseVLM, ICML 2025"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {
        rows: {"name": "attention", "rows": rows} for rows in ("last", "text", "visual", "all", "raters")
    }

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

    @property
    def reads(self) -> Reads:
        """The layer before the stage, or with ``at: current`` the layer itself."""
        return Reads.LAYER_BEFORE if self.at == "previous" else Reads.LAYER_ITSELF

    @property
    def keep_kinds(self) -> frozenset[KeepKind]:
        """All rules; combined rows give ranks, which are no shares of a score."""
        return COUNTS if self.combine else frozenset({*COUNTS, "mass", "threshold"})

    @property
    def color(self) -> Color:
        """A colour for each set of rows, and one for combined sets."""
        return _COMBINED if self.combine else _COLORS[self.rows]

    @property
    def family(self) -> str:
        """The rows that vote."""
        return f"{self.rows}+{self.combine}" if self.combine else self.rows

    @property
    def phrase(self) -> str:
        """Whose attention decides."""
        if self.combine is None:
            return _PHRASES[self.rows]
        return f"{_PHRASES[self.rows]} and {_PHRASES[self.combine]}, the better rank of both"

    @property
    def label(self) -> str:
        """The rows, with the other options: ``text at=current``."""
        return labelled(self.rows, {k: v for k, v in self.options.items() if k != "rows"})

    def _worded(self) -> dict[str, Any]:
        return {k: v for k, v in self.options.items() if k not in ("rows", "combine")}

    @property
    def asks_raters(self) -> bool:
        """Whether only words that match the image vote."""
        return self.rows == "raters"

    def problem_at(self, layer: int) -> str | None:
        """Before layer 0 there is no layer whose attention could be read."""
        problem = super().problem_at(layer)
        return problem and f"{problem}, or at 'current'"
