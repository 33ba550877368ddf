"""The content of ``front.json``: format ``autoprune.front``, version 1.

Keys are a contract: a file written today, or before the format was stamped, must load for ever. What a point says of a
data set is a `Summary`. What the page tells besides stands under `study`, where keys may be added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import InitErrorDetails

from autoprune.errors import StudyError
from autoprune.evaluate.results import Summary
from autoprune.schedule import Schedule
from autoprune.schedule.files import read_json
from autoprune.schedule.validation import explained
from autoprune.search.marks import Mark
from autoprune.search.notes import SCHEDULE_FILE, CostSpread, ModelNotes, PrefillTimes, StudyNotes
from autoprune.search.workers.protocol import Split

FORMAT: Literal["autoprune.front"] = "autoprune.front"
MOST_FRONT_BYTES: Final = 500_000_000
"""Size of the largest ``front.json`` that is read: all trials of a long study, and verdicts of single rows."""
SavedSchedule = Annotated[
    Schedule,
    PlainSerializer(Schedule.to_json_dict),
    SCHEDULE_FILE,
]
_LATER = frozenset({"anchors", "marks", "spread", "left_out", "measured_on", "mark"})
_REMEDY = "give the output folder of a study; `autoprune calibrate STUDY.yaml` finishes an interrupted one"


def _without_empty_later_keys(written: dict[str, Any]) -> dict[str, Any]:
    """Keys that older files do not have are written only where they say something."""
    return {key: value for key, value in written.items() if key not in _LATER or value is not None}


class _FrontPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(Summary):
    """A schedule with its figures: on calibration at the top, held-out under `validation`.

    Attributes:
        trial: Number of its trial; None for dense and for control arms.
        name: For people.
        schedule: The schedule.
        validation: Held-out figures; None where the study did not get there, or where the point loses more than
            `StudyNotes.within` on calibration.
        latency: Times, for the points that were timed.
        marks: Whether it is better than each published method that costs no less, by paired tests on held-out rows.
        spread: How its cost varies from input to input, where its counts depend on scores.
        left_out: Reason why it has no held-out figures by choice: it loses too much.
    """

    trial: int | None
    name: str
    schedule: SavedSchedule
    validation: Summary | None = None
    latency: PrefillTimes | None = None
    marks: tuple[Mark, ...] | None = None
    spread: CostSpread | None = None
    left_out: str | None = None

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty_later_keys(handler(self))


class Control(Point):
    """A control arm of point `of`; it is no trial of its own.

    Attributes:
        of: Trial of the point.
        measured_on: Data set of the figures at the top; None in files where it is always calibration.
        mark: Whether the point is better than the arm. It may rest on a part of the rows (`samples`), on which the
            measurement stopped because the point was far ahead: figures of these are no estimate of the arm.
    """

    of: int
    measured_on: Split | None = None
    mark: Mark | None = None


class FrontFile(_FrontPart):
    """A front: its points, the published methods beside them, and the control arms.

    Attributes:
        dense: The unpruned model.
        points: Complete trials that no other dominates on calibration.
        baselines: Published methods that were measured on all rows.
        anchors: Schedules that are safer than the dearest point and no points themselves; promises are tested on them
            first; None in earlier files.
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
    anchors: tuple[Point, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty_later_keys(handler(self))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The front of a study's output folder.

        Raises:
            StudyError: there is none, it is not what a study writes, or it is of a version that is not known.
        """
        path = Path(folder) / "front.json"
        try:
            found = read_json(path, MOST_FRONT_BYTES)
        except ValueError as error:
            raise _refusal(path, str(error)) from None
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
