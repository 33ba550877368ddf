"""One pruning step: before which layer, how many visual tokens stay, and which."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autoprune.errors import ScheduleError
from autoprune.schedule.criteria import AnyCriterion, KeepKind
from autoprune.schedule.validation import Float, Int, Part


class Keep(Part):
    """Keep rule: the number of visual tokens of a sample that are left after a stage; exactly one kind.

    Attributes:
        ratio: Share of the ORIGINAL visual tokens, in [0, 1]; 0 withdraws all of them.
        count: Number of tokens, at least 1.
        mass: The fewest best tokens that hold this share of the score of the tokens alive, in (0, 1].
        threshold: Keep every token whose score is at least this, and at least the best one.
    """

    ratio: Annotated[Float, Field(ge=0, le=1)] | None = None
    count: Annotated[Int, Field(ge=1, lt=2**63)] | None = None
    mass: Annotated[Float, Field(gt=0, le=1)] | None = None
    threshold: Float | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [k for k in ("ratio", "count", "mass", "threshold") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of ratio, count, mass, threshold, has {' and '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> KeepKind:
        """Name of the rule."""
        return next(k for k in ("ratio", "count", "mass", "threshold") if getattr(self, k) is not None)

    @property
    def value(self) -> float:
        """The rule's number."""
        return float(getattr(self, self.kind)) + 0.0  # -0.0 becomes 0.0

    def target(self, n_visual: int, alive: int) -> int:
        """Visual tokens left, for rules that do not depend on scores.

        Args:
            n_visual: Visual tokens of the sample before any stage.
            alive: Visual tokens alive before this stage.

        Raises:
            ScheduleError: for `mass` and `threshold`, whose count depends on the input.
        """
        if self.count is not None:
            return min(self.count, alive)
        if self.ratio is None:
            raise ScheduleError("depends on the scores of the input", field=f"keep.{self.kind}", value=self.value)
        wanted = round(self.ratio * n_visual)
        return min(max(wanted, 1) if self.ratio > 0 else 0, alive)


class Stage(Part):
    """One pruning step, taken BEFORE 0-based decoder layer `layer` runs; layer 0 is before the decoder.

    Attributes:
        layer: The layer.
        keep: How many visual tokens are left.
        criterion: Which ones.
        merge: ``mean``: every kept token becomes the mean of itself and of the dropped ones that are most similar to it
            (after VisionZip, CVPR 2025, section 3.2); it keeps its place. None drops them for good.
    """

    layer: Annotated[Int, Field(ge=0, lt=2**63)]
    keep: Keep
    criterion: AnyCriterion | None = None
    merge: Literal["mean"] | None = None

    @property
    def withdraws(self) -> bool:
        """Whether no visual token is left after this stage (VTW)."""
        return self.keep.ratio == 0

    @property
    def selects(self) -> bool:
        """Whether scores are needed: the stage neither withdraws nor keeps everything."""
        return self.keep.ratio not in (0.0, 1.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.selects:
            if self.merge:
                raise ValueError("merge needs both kept and dropped tokens: keep a part of them, or leave merge out")
            return self
        if self.criterion is None:
            raise ValueError(
                "a stage that keeps a part needs a criterion, such as {'name': 'attention', 'rows': 'text'}"
            )
        if self.keep.kind not in self.criterion.keep_kinds:
            possible = " or ".join(f"keep.{kind}" for kind in sorted(self.criterion.keep_kinds))
            raise ValueError(f"keep.{self.keep.kind} does not work with {self.criterion.label}: use {possible}")
        # Only layer 0 is part of the file's contract: what cannot serve deeper loads, and apply() refuses it.
        problem = self.criterion.problem_at(0) if self.layer == 0 else None
        if problem:
            raise ValueError(problem)
        return self
