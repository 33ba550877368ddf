"""The notes of ``front.json``: what stands beside the figures, each key typed, each one optional for older files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer

from autoprune.search.costs import PhaseCost
from autoprune.search.verdicts import RowVerdicts

SCHEDULE_FILE = WithJsonSchema(
    {"type": "object", "description": "A schedule file; its schema is autoprune.schedule.v1."}
)


class _Notes(BaseModel):
    """Keys that may be absent, and may be joined by others; saved as they were given."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class PrefillTimes(_Notes):
    """Milliseconds of one batch, dense and pruned measured in turn."""

    prefill_ms: float
    prefill_dense_ms: float | None = None
    prefill_spread_ms: float | None = None
    end_to_end_ms: float | None = None
    end_to_end_dense_ms: float | None = None
    batch: int | None = None
    new_tokens: int | None = None


class TrialRecord(_Notes):
    """A trial of the search, with its figures on the calibration rows that it was measured on.

    Its schedule stays as it was written: nothing is shown of it, and it may need a package that is not installed.
    """

    trial: int
    name: str
    state: str
    schedule: Annotated[dict[str, Any], SCHEDULE_FILE] | None = None
    samples: int | None = None
    reason: str | None = None
    duplicate_of: int | None = None

    def figure(self, name: str) -> float | None:
        """A figure by its key, if it was measured."""
        value = (self.model_extra or {}).get(name)
        return None if value is None else float(value)


class CostSpread(_Notes):
    """Quantiles over the rows of prefill FLOPs relative to dense, for a schedule whose counts depend on scores."""

    p10: float
    p50: float
    p90: float
    max: float


class Omission(_Notes):
    """Something that a study did not look at: a criterion, a preset, a layer."""

    what: str
    why: str


class PresetVerdict(_Notes):
    """Whether a point that was searched for costs no more than a published method and is better.

    Attributes:
        name: The published method.
        trial: Its trial; None if it has none.
        beaten: Whether `verdict` is ``beaten``. In files without `verdict`: whether a point's estimate is no lower.
        by: Trial of the point that was compared with it. In files without `verdict`: of the one that beats it.
        verdict: ``beaten`` and ``not beaten``: they differ, at 5 % error over all verdicts of the study; ``matched``:
            they cannot be told apart. ``not beaten`` also where no point costs as little.
        difference: Quality of the point minus that of the method on the same rows.
        difference_ci: Its 95 % interval, by itself.
        p: Two-sided, exact: of the signs of the groups' summed differences.
        adjusted_p: Corrected for the number of published methods (Holm 1979).
        samples: Rows of the comparison.
        split: Whether they are held-out rows or those of the search.
    """

    name: str
    trial: int | None = None
    beaten: bool
    by: int | None = None
    verdict: Literal["beaten", "matched", "not beaten"] | None = None
    difference: float | None = None
    difference_ci: tuple[float, float] | None = None
    p: float | None = None
    adjusted_p: float | None = None
    samples: int | None = None
    split: Literal["calibration", "validation"] | None = None


class DataNotes(_Notes):
    """A data set of the study.

    Attributes:
        rows: How many rows are judged by what, and how many show no image; kinds that have none are left out.
        unread: Columns of the data that no field takes.
    """

    path: str
    samples: int
    digest: str
    rows: dict[str, int] = Field(default_factory=dict)
    unread: tuple[str, ...] = ()


class EstimateNotes(_Notes):
    """What a study was expected to take, before it began.

    Attributes:
        seconds: Its duration.
        memory_bytes: Largest memory of a worker.
    """

    seconds: float | None = None
    memory_bytes: int | None = None


class StudyNotes(_Notes):
    """Everything that the page tells besides the figures.

    Attributes:
        within: Losses on calibration beyond this are of no interest: such points have no held-out figures.
        left_out: What the study did not look at, and why.
        stopped: Candidates that were not measured on all rows, by reason.
        by_generating: Why schedules were scored by ``generate()``, and what that costs; None = teacher-forced.
        costs: What each phase of the study cost.
        hit_rate: Share of the layers' work on candidates that was taken from another candidate or from dense.
        peak_bytes: Largest memory of a worker.
        estimate: What was expected of duration and memory.
    """

    name: str
    complete: bool = True
    objectives: tuple[str, ...] = ()
    trials: tuple[TrialRecord, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    importances: dict[str, dict[str, float]] = Field(default_factory=dict)
    presets: tuple[PresetVerdict, ...] = ()
    data: dict[str, DataNotes] = Field(default_factory=dict)
    convention: str | None = None
    metric: dict[str, Any] | None = None
    near_ties: float | None = None
    by_generating: str | None = None
    visual_tokens: float | None = None
    text_tokens: float | None = None
    seconds: float | None = None
    seconds_search: float | None = None
    worker_restarts: int | None = None
    hardware: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    seeds: dict[str, Any] | None = None
    within: float | None = None
    left_out: tuple[Omission, ...] = ()
    stopped: dict[str, int] = Field(default_factory=dict)
    costs: dict[str, PhaseCost] = Field(default_factory=dict)
    verdicts: dict[str, RowVerdicts] = Field(default_factory=dict)
    hit_rate: float | None = None
    peak_bytes: int | None = None
    estimate: EstimateNotes | None = None


class ModelNotes(_Notes):
    """The model that was searched.

    Attributes:
        pixels: What prepared its images, ``torchvision`` or ``pil``; None where that is not known.
    """

    name: str
    model_type: str
    num_layers: int
    hidden_size: int
    fingerprint: str | None = None
    dtype: str | None = None
    pixels: str | None = None
