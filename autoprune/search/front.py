"""The content of ``front.json``: format ``autoprune.front``, version 1.

Keys are a contract: a file written today, or before the format was stamped, must load for ever. What a point says of a
data set is a `Summary`. What the page tells besides stands under `study`, where keys may be added.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
)
from pydantic_core import InitErrorDetails

from autoprune.errors import StudyError
from autoprune.evaluate.results import Summary
from autoprune.schedule import Schedule
from autoprune.schedule.validation import explained
from autoprune.search.verdicts import RowVerdicts

FORMAT: Literal["autoprune.front"] = "autoprune.front"
_SCHEDULE_FILE = WithJsonSchema(
    {"type": "object", "description": "A schedule file; its schema is autoprune.schedule.v1."}
)
SavedSchedule = Annotated[
    Schedule,
    PlainSerializer(Schedule.to_json_dict),
    _SCHEDULE_FILE,
]
_REMEDY = "give the output folder of a study; `autoprune calibrate STUDY.yaml` finishes an interrupted one"


class _FrontPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Point(Summary):
    """A schedule with its figures: on calibration at the top, held-out under `validation`."""

    trial: int | None
    name: str
    schedule: SavedSchedule
    validation: Summary | None = None
    latency: PrefillTimes | None = None


class Control(Point):
    """A control arm of point `of`; it is no trial of its own."""

    of: int


class TrialRecord(_Notes):
    """A trial of the search, with its figures on the calibration rows that it was measured on.

    Its schedule stays as it was written: nothing is shown of it, and it may need a package that is not installed.
    """

    trial: int
    name: str
    state: str
    schedule: Annotated[dict[str, Any], _SCHEDULE_FILE] | None = None
    samples: int | None = None
    reason: str | None = None
    duplicate_of: int | None = None

    def figure(self, name: str) -> float | None:
        """A figure by its key, if it was measured."""
        value = (self.model_extra or {}).get(name)
        return None if value is None else float(value)


class PresetVerdict(_Notes):
    """Whether a point that was searched for is cheaper than a published method and at least as good."""

    name: str
    trial: int | None = None
    beaten: bool
    by: int | None = None


class DataNotes(_Notes):
    """A data set of the study."""

    path: str
    samples: int
    digest: str


class StudyNotes(_Notes):
    """Everything that the page tells besides the figures."""

    name: str
    complete: bool = True
    objectives: tuple[str, ...] = ()
    trials: tuple[TrialRecord, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    importances: dict[str, dict[str, float]] = Field(default_factory=dict)
    presets: tuple[PresetVerdict, ...] = ()
    data: dict[str, DataNotes] = Field(default_factory=dict)
    verdicts: dict[str, RowVerdicts] = Field(default_factory=dict)
    convention: str | None = None
    metric: dict[str, Any] | None = None
    near_ties: float | None = None
    visual_tokens: float | None = None
    text_tokens: float | None = None
    seconds: float | None = None
    seconds_search: float | None = None
    worker_restarts: int | None = None
    hardware: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    seeds: dict[str, Any] | None = None


class ModelNotes(_Notes):
    """The model that was searched."""

    name: str
    model_type: str
    num_layers: int
    hidden_size: int
    fingerprint: str | None = None
    dtype: str | None = None


class FrontFile(_FrontPart):
    """A front: its points, the published methods beside them, and the control arms.

    Attributes:
        dense: The unpruned model.
        points: Complete trials that no other dominates on calibration.
        baselines: Published methods that were measured on all rows.
        controls: For each point the same layers and counts with random and with even choice.
    """

    format: Literal["autoprune.front"] = FORMAT
    version: Literal[1] = 1
    study: StudyNotes
    model: ModelNotes
    dense: Point
    points: tuple[Point, ...]
    baselines: tuple[Point, ...]
    controls: tuple[Control, ...]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The front of a study's output folder.

        Raises:
            StudyError: there is none, it is not what a study writes, or it is of a version that is not known.
        """
        path = Path(folder) / "front.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _refusal(path, f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise _refusal(path, f"is not JSON: {error}") from None
        if not isinstance(found, dict) or found.get("format", FORMAT) != FORMAT:
            raise _refusal(path, f"is no front: its key 'format' must be {FORMAT!r}")
        if found.get("version", 1) != 1:
            remedy = "update autoprune, or calibrate with the one that is installed"
            raise _refusal(path, f"is a front of version {found['version']!r}, only version 1 is known", remedy)
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            problem = explained(_first(error), cls, StudyError)
            value = problem.value if isinstance(problem.value, str) else None  # not a whole list of points
            wrong = StudyError(problem.message, field=problem.field, value=value)
            raise _refusal(path, f"is no front: {wrong}", problem.remedy or _REMEDY) from None


def front_schema() -> dict[str, Any]:
    """The JSON Schema of version 1, shipped as ``front.schema.json`` for other tools."""
    schema = FrontFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "autoprune.front.v1",
        **schema,
        "title": "autoprune front, version 1",
    }


def _first(error: ValidationError) -> ValidationError:
    """The first problem alone: what is wrong with one point is wrong with most of them."""
    first = error.errors()[0]
    detail = InitErrorDetails(type=first["type"], loc=first["loc"], input=first["input"], ctx=first.get("ctx", {}))
    return ValidationError.from_exception_data(error.title, [detail])


def _refusal(path: Path, message: str, remedy: str = _REMEDY) -> StudyError:
    return StudyError(message, field="run", value=str(path), remedy=remedy)
