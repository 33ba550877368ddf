"""The sections of a study file: every field, its default, its range, and what it must fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from autoprune.data.options import DataOptions
from autoprune.errors import AutopruneError, ScheduleError, StudyError
from autoprune.models.options import ModelOptions
from autoprune.schedule import Criterion, parse_criterion
from autoprune.schedule.criteria import SHORT_NAMES, AnyCriterion
from autoprune.schedule.files import real_path
from autoprune.schedule.validation import INSIDE
from autoprune.search.methods import every_criterion

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]
_SOME = {
    "layers": "use all, or list some, such as [2, 8]",
    "keep": "list shares of the visual tokens, such as [0.5, 0.2]",
    "criteria": "use all, or list some, such as [text, visual]",
}
_FILE_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class StudyContext:
    """Folder and model that a study file is checked against; validators find them in `ValidationInfo.context`.

    Attributes:
        base: Folder at which relative paths start.
        config: Configuration of the model; None if it is unknown.
        num_layers: Decoder layers of the model; None if they are unknown.
        problem: Error that kept the configuration from being read.
    """

    base: Path
    config: Any = None
    num_layers: int | None = None
    problem: StudyError | None = None

    def place(self, path: str) -> Path:
        """Absolute path of a file or folder of the study."""
        return real_path(self.base / os.path.expanduser(path))


class StudySection(BaseModel):
    """A frozen part of a study file; unknown keys are refused.

    Without a `StudyContext`, as in ``Space(max_stages=2)``, nothing is checked against model or disk.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        # Defaults, too, must fit the model.
        validate_default=True,
        revalidate_instances="always",
    )


class _Located(StudySection):
    path: str


class ModelSection(ModelOptions, _Located):
    """The model: a folder (relative to the study file) or a name on the hub, and how it is loaded."""

    @field_validator("path")
    @classmethod
    def _has_a_config(cls, path: str, info: ValidationInfo) -> str:
        context: StudyContext | None = info.context
        if context is None:
            return path
        if context.problem is not None:
            raise context.problem
        folder = context.place(path)
        return str(folder) if folder.is_dir() else path


class DataSet(DataOptions, _Located):
    """One data set: a file (relative to the study file) or a `datasets` name, and how it is read."""

    @field_validator("path")
    @classmethod
    def _exists(cls, path: str, info: ValidationInfo) -> str:
        context: StudyContext | None = info.context
        if context is None:
            return path
        place = context.place(path)
        if place.exists():
            return str(place)
        if place.suffix.lower() in _FILE_SUFFIXES or path.startswith((".", "/", "~")):
            raise StudyError("no such file; relative paths start at the study file", value=path)
        return path


class DataSection(StudySection):
    """Rows that the search sees, and held-out rows that judge its front."""

    calibration: DataSet
    validation: DataSet | None = None


class Evaluation(StudySection):
    """How candidates are measured.

    Attributes:
        batch_size: Rows that run together.
        max_new_tokens: Longest answer, in tokens.
    """

    batch_size: Annotated[Int, Field(ge=1)] = 16
    max_new_tokens: Annotated[Int, Field(ge=1)] = 32


class Constraints(StudySection):
    """Bounds on the accuracy lost against dense, absolute (``*`` = overall, else a task's name), and on the cost.

    They steer the sampler, and a candidate that breaks one is no point of the front.

    Attributes:
        max_drop: By task.
        max_flops: Most FLOPs, as a share of the dense model's.
    """

    max_drop: dict[str, Annotated[Float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    max_flops: Annotated[Float, Field(gt=0, le=1)] | None = None


def named_by_the_study(error: AutopruneError, inner: str) -> StudyError:
    """The error of a value, without the name `inner` that the value had where it was parsed: the study names it."""
    field = None if error.field == inner else error.field
    return StudyError(error.message, field=field, value=error.value, remedy=error.remedy)


def _criterion(given: Any) -> Any:
    """A criterion by its short name."""
    if not isinstance(given, str):
        return given
    try:
        return parse_criterion(given)
    except ScheduleError as error:
        raise named_by_the_study(error, "criterion") from None


ALL: Final = "all"
_EachCriterion = Annotated[AnyCriterion, BeforeValidator(_criterion)]


def all_or_each(given: Any) -> str:
    """Which of the two a value is, so that its errors are about that one alone."""
    return "literal[all]" if isinstance(given, str) else "tuple[each]"


All = Annotated[Literal["all"], Tag("literal[all]")]
AllOrEach = Discriminator(all_or_each)
"""Marks a field that is ``all`` or a list."""


class Space(StudySection):
    """Layers, keeps and selection methods that a schedule may be made of.

    Attributes:
        layers: Layers that a stage may stand before.
        keep: Shares of the original visual tokens that a stage may leave.
        mass: Shares of the score of the tokens alive that a stage may keep instead, where a criterion allows it.
        criteria: ``all`` = what the model can run and needs no file; in a list, ``all`` is attention from all rows.
        also: Criteria beside ``all``: those that need a file, or come from another package.
        merge: Whether dropped tokens are averaged into kept ones: without, with, or both. None = both if `criteria` is
            ``all``, else without.
        max_stages: Most stages of a schedule.
    """

    layers: Annotated[All | Annotated[tuple[Annotated[Int, Field(ge=0)], ...], Tag("tuple[each]")], AllOrEach] = ALL
    keep: tuple[Annotated[Float, Field(ge=0, lt=1)], ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    mass: tuple[Annotated[Float, Field(gt=0, lt=1)], ...] = ()
    criteria: Annotated[All | Annotated[tuple[_EachCriterion, ...], Tag("tuple[each]")], AllOrEach] = ALL
    also: tuple[_EachCriterion, ...] = ()
    merge: tuple[Annotated[bool, Strict()], ...] | None = None
    max_stages: Annotated[Int, Field(ge=1)] = 3

    @property
    def all_criteria(self) -> tuple[Criterion, ...]:
        """The criteria that are named, or all and those beside them."""
        return (*every_criterion(), *self.also) if self.criteria == ALL else self.criteria

    @property
    def named_criteria(self) -> tuple[Criterion, ...]:
        """The criteria that the file names one by one, so that none of them may be left out in silence."""
        return self.also if self.criteria == ALL else self.criteria

    @property
    def merges(self) -> tuple[bool, ...]:
        """Whether dropped tokens are merged: no, yes, or both."""
        if self.merge is not None:
            return self.merge
        return (False, True) if self.criteria == ALL else (False,)

    def identity(self) -> dict[str, Any]:
        """What distinguishes spaces, for the database: without keys whose value means what there was before them."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if key not in ("mass", "also", "merge") or value}

    def as_begun(self, known: Mapping[str, Any]) -> Space:
        """The space that a study began with, where its file leaves keys open: defaults may change, its trials do not.

        Args:
            known: `identity` of the space in the database.
        """
        given = {key: getattr(self, key) for key in self.model_fields_set}
        try:
            return self if known == self.identity() else Space.model_validate({**known, **given})
        except ValidationError:  # what the file does say contradicts it: another space
            return self

    @field_validator("layers", "keep", "criteria")
    @classmethod
    def _some(cls, given: Any, info: ValidationInfo) -> Any:
        if not given:
            raise StudyError("must not be empty", remedy=_SOME[info.field_name or ""])
        return given

    @field_validator("merge")
    @classmethod
    def _some_choice(cls, given: tuple[bool, ...] | None) -> tuple[bool, ...] | None:
        if given == ():
            raise StudyError("must not be empty", remedy="use [false], [true] or [false, true]")
        return given

    @field_validator("layers", "keep", "mass", "criteria", "also", "merge")
    @classmethod
    def _distinct(cls, given: Any) -> Any:
        if given is not None and given != ALL and len(set(given)) != len(given):
            raise StudyError("names a value twice")
        return given

    @field_validator("layers")
    @classmethod
    def _in_the_model(cls, layers: Any, info: ValidationInfo) -> Any:
        context: StudyContext | None = info.context
        depth = context.num_layers if context else None
        if depth is not None and layers != "all" and (wrong := [k for k in layers if k >= depth]):
            raise StudyError(f"the model has layers 0 to {depth - 1}", value=wrong)
        return layers

    @field_validator("criteria", "also")
    @classmethod
    def _from_the_folder(cls, criteria: Any, info: ValidationInfo) -> Any:
        context: StudyContext | None = info.context
        return tuple(c.from_folder(context.base) for c in criteria) if context and criteria != ALL else criteria

    @field_validator("also")
    @classmethod
    def _beside_all(cls, also: tuple[Criterion, ...], info: ValidationInfo) -> tuple[Criterion, ...]:
        if also and info.data.get("criteria", ALL) != ALL:
            raise StudyError("stands beside `criteria: all` alone", remedy="add them to the list space.criteria")
        if twice := [criterion.label for criterion in also if criterion in every_criterion()]:
            raise StudyError("is among `criteria: all` already", value=twice[0], remedy="leave it out here")
        return also

    @model_validator(mode="after")
    def _mass_is_served(self) -> Self:
        if self.mass and not any("mass" in criterion.keep_kinds for criterion in self.all_criteria):
            able = [name for name in SHORT_NAMES if "mass" in parse_criterion(name).keep_kinds]
            raise StudyError(
                "no criterion of the space can keep a share of its score",
                field=f"{INSIDE}.mass",
                value=list(self.mass),
                remedy=f"add one that can ({', '.join(able)}), or leave mass out",
            )
        return self

    @field_validator("criteria")
    @classmethod
    def _one_for_every_layer(cls, given: Any, info: ValidationInfo) -> Any:
        if not {"layers", "keep"} <= info.data.keys():  # one of them is wrong itself, and is reported
            return given
        criteria = every_criterion() if given == ALL else given
        layers, keep = info.data["layers"], info.data["keep"]
        for layer in layers if layers != "all" else ():
            problems = [criterion.problem_at(layer) for criterion in criteria]
            if all(problems) and (layer == 0 or 0.0 not in keep):
                able = [name for name in SHORT_NAMES if parse_criterion(name).problem_at(layer) is None]
                raise StudyError(
                    f"no criterion of the space can serve layer {layer}: {problems[0]}",
                    remedy=f"add one that can ({', '.join(able)}), or leave layer {layer} out of space.layers (its "
                    "withdrawal is always tried)",
                )
        context: StudyContext | None = info.context
        depth = range((context.num_layers if context else None) or 0)
        if depth and all(criterion.problem_at(layer) for criterion in criteria for layer in depth):
            raise StudyError("none of them can serve a layer of this model", value=[c.label for c in criteria])
        return given

    @field_validator("max_stages")
    @classmethod
    def _at_most_one_a_layer(cls, stages: int, info: ValidationInfo) -> int:
        context: StudyContext | None = info.context
        depth = context.num_layers if context else None
        if depth is not None and stages > depth:
            raise StudyError(f"the model has {depth} layers only", value=stages)
        return stages


class Search(StudySection):
    """Sampler, budget and seed of the search.

    Attributes:
        sampler: Which rule proposes schedules.
        trials: Distinct candidates.
        row_forwards: Most rows that the search runs through schedules, all candidates together; None = no bound.
        minutes: Bound on the search itself, not on the final measurements; None = no bound.
        within: Largest loss of quality against dense that is of interest: beyond it the search does not look
            closer, and points are not measured any further.
        seed: Of everything that is drawn.
        racing: Whether candidates that are beaten with confidence are stopped.
    """

    sampler: Literal["gp", "tpe", "nsga2", "random"] = "gp"
    trials: Annotated[Int, Field(ge=1)] = 200
    row_forwards: Annotated[Int, Field(ge=1)] | None = None
    minutes: Annotated[Float, Field(gt=0)] | None = None
    within: Annotated[Float, Field(gt=0, le=1)] = 0.15
    seed: Annotated[Int, Field(ge=0)] = 0
    racing: Annotated[bool, Strict()] = True


class Workers(StudySection):
    """Worker processes.

    Attributes:
        count: How many; 0 computes in the driver.
        cpus: Torch threads of a worker, and the CPUs that it takes.
        gpus: GPUs of a worker: a part of one, or whole ones.
        wait: Seconds to wait for a cluster that has no room now.
    """

    count: Annotated[Int, Field(ge=0)] = 2
    cpus: Annotated[Int, Field(ge=1)] = 1
    gpus: Annotated[Float, Field(ge=0)] = 0
    wait: Annotated[Float, Field(ge=0)] = 60.0

    @property
    def each(self) -> dict[str, float]:
        """What a worker takes, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    @field_validator("gpus")
    @classmethod
    def _part_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus % 1:
            raise StudyError("must be a part of one GPU or whole ones", remedy="use 0.5, 1, 2 …")
        return gpus
