"""The pruning schedule: which visual tokens leave, before which decoder layer, chosen by which criterion.

The saved form is a contract (format ``autoprune.schedule``, version 1): unknown keys are refused, because dropping one
would silently change answers, and a file written today must load for ever.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from autoprune.errors import ModelError, ScheduleError
from autoprune.schedule.criteria import Criterion
from autoprune.schedule.files import read_json, write_whole
from autoprune.schedule.identity import ModelIdentity
from autoprune.schedule.stage import Stage
from autoprune.schedule.validation import Part, canonical, explained


class Schedule(Part):
    """A pruning schedule, as saved (contract: format ``autoprune.schedule``, version 1).

    Attributes:
        model: What it was made for; None for a preset or a schedule written by hand.
        stages: Pruning steps, by increasing layer.
        positions: ``keep`` leaves survivors at their original rotary positions (FastV, HiMAP, VTW); ``compact``
            renumbers them without gaps from the pruned layer on (VTW's ``reset`` variant, PyramidDrop's own code).
        evidence: Free-form; ignored when the schedule is applied.

    Raises:
        ScheduleError: on any malformed or contradictory content; the message names the fields.
    """

    format: Literal["autoprune.schedule"] = "autoprune.schedule"
    version: Literal[1] = 1
    model: ModelIdentity | None = None
    stages: tuple[Stage, ...] = ()
    positions: Literal["keep", "compact"] = "keep"
    evidence: dict[str, Any] = Field(default_factory=dict)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explained(error, Schedule, ScheduleError) from None

    @field_validator("evidence")
    @classmethod
    def _evidence_is_json(cls, evidence: dict[str, Any]) -> dict[str, Any]:
        # What loads can be saved: Python's JSON reads NaN, which no JSON file may hold.
        try:
            json.dumps(evidence, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ScheduleError(
                f"is no JSON: {error}", field="evidence", remedy="write null for what is not a number"
            ) from None
        return evidence

    @model_validator(mode="after")
    def _stages_in_order(self) -> Self:
        for i, (before, after) in enumerate(itertools.pairwise(self.stages), start=1):
            if after.layer <= before.layer:
                raise ValueError(
                    f"stages[{i}].layer {after.layer} must be greater than stages[{i - 1}].layer {before.layer}"
                )
            if before.withdraws:
                raise ValueError(
                    f"stages[{i}] follows a withdrawal (keep.ratio 0), after which no visual token is left"
                )
        for kind in ("ratio", "count"):
            kept = [(i, s.keep.value) for i, s in enumerate(self.stages) if s.keep.kind == kind]
            for (i, a), (j, b) in itertools.pairwise(kept):
                if b > a:
                    raise ValueError(
                        f"stages[{j}].keep.{kind} {b:g} is above stages[{i}].keep.{kind} {a:g}: tokens cannot come back"
                    )
        if self.model and self.stages and self.stages[-1].layer >= self.model.num_layers:
            last, depth = self.stages[-1].layer, self.model.num_layers
            raise ValueError(
                f"stages[{len(self.stages) - 1}].layer {last} is out of range: the model has layers 0 to {depth - 1}"
            )
        return self

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """A schedule from its JSON object.

        Raises:
            ScheduleError: on unknown keys, unknown version or bad values.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise explained(error, Schedule, ScheduleError) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a schedule file; a codebook is looked for from the working folder, then beside the file.

        Raises:
            ScheduleError: the file is missing, is no JSON, or is no valid schedule.
        """
        try:
            obj = read_json(path)
        except ValueError as error:
            remedy = "give the path of a schedule JSON file, or export it again"
            raise ScheduleError(str(error), field="schedule", value=str(path), remedy=remedy) from None
        found = obj.get("format") if isinstance(obj, dict) else type(obj).__name__
        if found != "autoprune.schedule":
            raise ScheduleError(
                "is not an autoprune schedule",
                field="format",
                value=found,
                remedy="the key 'format' must be 'autoprune.schedule'",
            )
        if type(obj.get("version")) is not int:
            raise ScheduleError("must be 1", field="version", value=obj.get("version"), remedy="export it again")
        folder = Path(path).parent
        return cls.model_validate(obj).with_criteria(lambda criterion: criterion.found_in(folder))

    def from_folder(self, folder: str | os.PathLike[str]) -> Self:
        """The same schedule, with the relative paths of its criteria taken from a folder."""
        return self.with_criteria(lambda criterion: criterion.from_folder(Path(folder)))

    def with_criteria(self, change: Callable[[Criterion], Criterion]) -> Self:
        """The same schedule, with each of its criteria changed."""
        stages = tuple(
            stage if stage.criterion is None else stage.model_copy(update={"criterion": change(stage.criterion)})
            for stage in self.stages
        )
        return self.model_copy(update={"stages": stages})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the schedule file, whole or not at all.

        Raises:
            ScheduleError: the file cannot be written, or `evidence` is no JSON.
        """
        try:
            write_whole(path, self.to_json())
        except OSError as error:
            raise ScheduleError(
                f"cannot be written: {error.strerror}",
                field="path",
                value=str(path),
                remedy="give a file in an existing, writable folder",
            ) from None

    def to_json(self) -> str:
        """The text of the schedule file.

        Raises:
            ScheduleError: `evidence` is no JSON.
        """
        try:
            return json.dumps(self.to_json_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise ScheduleError(f"is no JSON: {error}", field="evidence") from None

    def to_json_dict(self) -> dict[str, Any]:
        """The schedule as saved: rules and options at their default are left out."""
        stages = []
        for stage in self.stages:
            entry: dict[str, Any] = {"layer": stage.layer, "keep": stage.keep.model_dump(exclude_none=True)}
            if stage.criterion is not None:
                entry["criterion"] = stage.criterion.to_json_dict()
            if stage.merge is not None:
                entry["merge"] = stage.merge
            stages.append(entry)
        return {
            "format": self.format,
            "version": self.version,
            "model": self.model.model_dump() if self.model else None,
            "stages": stages,
            **({} if self.positions == "keep" else {"positions": self.positions}),
            "evidence": self.evidence,
        }

    @property
    def key(self) -> str:
        """Hex SHA-256 of what the schedule does; two schedules that prune alike share it."""
        stages = [
            {
                "layer": s.layer,
                "keep": {s.keep.kind: s.keep.value},
                "criterion": s.criterion.identity if s.selects and s.criterion else None,
                **({"merge": s.merge} if s.merge else {}),
            }
            for s in self.stages
            if s.keep.ratio != 1
        ]
        compact = bool(stages) and self.positions == "compact"
        return hashlib.sha256(canonical({"compact": stages} if compact else stages)).hexdigest()

    def with_model(self, config: Any, name: str = "") -> Schedule:
        """The same schedule, stamped with the identity of the model it is for.

        Raises:
            ScheduleError: a layer is out of range for this model.
        """
        return Schedule(**{**dict(self), "model": ModelIdentity.from_config(config, name)})

    def check_model(self, config: Any) -> None:
        """Check that the schedule fits a model.

        Raises:
            ModelError: another model type, depth or width, or a layer out of range.

        Warns:
            UserWarning: the structure differs in a detail that the layers do not depend on.
        """
        actual = ModelIdentity.from_config(config)
        if self.model:
            for field in ("model_type", "num_layers", "hidden_size"):
                wanted, got = getattr(self.model, field), getattr(actual, field)
                if wanted != got:
                    raise ModelError(
                        f"the schedule is for {self.model.name} with {field} {wanted}",
                        field=f"model.{field}",
                        value=got,
                        remedy="calibrate this model, or load the model that the schedule was made for",
                    )
            if self.model.config_sha256 != actual.config_sha256:
                warnings.warn(
                    f"schedule made for {self.model.name}: this model has the same type, depth and width but another "
                    "structure (config_sha256 differs)",
                    stacklevel=3,
                )
        if self.stages and self.stages[-1].layer >= actual.num_layers:
            raise ModelError(
                f"out of range: the model has layers 0 to {actual.num_layers - 1}",
                field=f"stages[{len(self.stages) - 1}].layer",
                value=self.stages[-1].layer,
                remedy="use a layer of this model, or presets.for_depth to map published layers",
            )
