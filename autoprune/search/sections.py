"""The sections of a study file: every field, its default and its range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator

from autoprune.schedule import AttentionCriterion, parse_criterion
from autoprune.schedule.criteria import AnyCriterion

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


class Section(BaseModel):
    """A frozen part of a study file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ModelSection(Section):
    """The model: a folder (relative to the study file) or a name on the hub."""

    path: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    trust_remote_code: Annotated[bool, Strict()] = False


class DataSet(Section):
    """One data set: a file (relative to the study file) or a `datasets` name."""

    path: str
    split: str = "train"
    samples: Annotated[Int, Field(ge=1)] | None = None
    seed: Int = 0
    columns: dict[str, str] = Field(default_factory=dict)


class DataSection(Section):
    """Rows that the search sees, and held-out rows that judge its front."""

    calibration: DataSet
    validation: DataSet | None = None


class Constraints(Section):
    """Bounds on the accuracy lost against dense, absolute: ``*`` = overall, else a task's name.

    They steer the sampler, and a candidate that breaks one is no point of the front.
    """

    max_drop: dict[str, Annotated[Float, Field(ge=0, le=1)]] = Field(default_factory=dict)


class Space(Section):
    """What the sampler may draw."""

    layers: Literal["all"] | tuple[Annotated[Int, Field(ge=0)], ...] = "all"
    keep: tuple[Annotated[Float, Field(ge=0, lt=1)], ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    criteria: tuple[AnyCriterion, ...] = tuple(AttentionCriterion(rows=rows) for rows in ("last", "text", "visual"))
    max_stages: Annotated[Int, Field(ge=1)] = 3

    @field_validator("criteria", mode="before")
    @classmethod
    def _short_names(cls, given: Any) -> Any:
        return [parse_criterion(item) for item in given] if isinstance(given, list) else given

    @field_validator("layers", "keep", "criteria")
    @classmethod
    def _some_and_distinct(cls, given: Any) -> Any:
        if given == "all":
            return given
        if not given:
            raise ValueError("must not be empty")
        if len(set(given)) != len(given):
            raise ValueError("names a value twice")
        return given


class Search(Section):
    """How long and how to search; `minutes` bounds the search itself, not the final measurements."""

    sampler: Literal["tpe", "random", "nsga2"] = "tpe"
    trials: Annotated[Int, Field(ge=1)] = 200
    minutes: Annotated[Float, Field(gt=0)] | None = None
    seed: Annotated[Int, Field(ge=0)] = 0
    racing: Annotated[bool, Strict()] = True


class Workers(Section):
    """Worker processes; count 0 computes in the driver. `cpus` = torch threads of a worker."""

    count: Annotated[Int, Field(ge=0)] = 2
    cpus: Annotated[Int, Field(ge=1)] = 1
    gpus: Annotated[Float, Field(ge=0)] = 0
