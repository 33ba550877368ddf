"""A study file as one checked value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from autoprune.errors import StudyError
from autoprune.evaluate.objectives import ACCURACY, COSTS, FLOPS, QUALITIES
from autoprune.search import spec_problems as problems
from autoprune.search.sections import (
    Constraints,
    DataSection,
    ModelSection,
    Search,
    Section,
    Space,
    Workers,
)

_OVERRIDES = {"trials": "search", "workers": "workers", "storage": "storage", "output": "output"}


class StudySpec(Section):
    """A study (contract of the study file). Paths are absolute once it is loaded.

    Attributes:
        baselines: Preset names (mapped to the model's depth) or schedule files.
        storage: Database URL; None = a SQLite file in `output`.
    """

    name: Annotated[str, Field(min_length=1)]
    model: ModelSection
    data: DataSection
    objectives: tuple[str, ...] = (FLOPS.name, ACCURACY.name)
    constraints: Constraints = Constraints()
    space: Space = Space()
    baselines: tuple[str, ...] = ("vtw", "fastv", "himap", "pyramiddrop")
    search: Search = Search()
    workers: Workers = Workers()
    output: Annotated[str, Field(min_length=1)]
    storage: str | None = None

    @field_validator("objectives")
    @classmethod
    def _cost_and_quality(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return problems.checked_objectives(given)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        trials: int | None = None,
        workers: int | None = None,
        storage: str | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Read and check a study file; no model is loaded.

        Args:
            path: The YAML file; relative paths in it start at its folder.
            trials: Wins over ``search.trials``.
            workers: Wins over ``workers.count``.
            storage: Wins over ``storage``; a relative SQLite file starts at the working folder.
            output: Wins over ``output``; starts at the working folder.

        Raises:
            StudyError: everything that is wrong with the file, in one line.
        """
        file = Path(path)
        raw = _with_overrides(_read(file), trials, workers, storage, output)
        return cls._checked(raw, file.resolve().parent, file.name)

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any], *, workers: int | None = None, output: str | os.PathLike[str] | None = None
    ) -> Self:
        """Check a study given as the keys and values of a study file; no model is loaded.

        Args:
            raw: The keys and values; relative paths in them start at the working folder.
            workers: Wins over ``workers.count``.
            output: Wins over ``output``.

        Raises:
            StudyError: everything that is wrong with the study, in one line.
        """
        return cls._checked(_with_overrides(raw, None, workers, None, output), Path.cwd(), "study")

    @classmethod
    def _checked(cls, raw: dict[str, Any], base: Path, source: str) -> Self:
        values, found = _sections(cls, raw)
        resolved, more = problems.resolve(values, base)
        if found or more:
            raise _all_at_once([*found, *more], source)
        return cls.model_validate(resolved)

    @property
    def output_path(self) -> Path:
        """Folder that the study writes to."""
        return Path(self.output)

    @property
    def model_name(self) -> str:
        """The hub name, or the last two parts of a folder: what a schedule calls the model it was made for."""
        return "/".join(Path(self.model.path).parts[-2:])

    @property
    def storage_url(self) -> str:
        """URL of the database."""
        return self.storage or f"sqlite:///{(self.output_path / 'study.db').as_posix()}"

    @property
    def costs(self) -> tuple[str, ...]:
        """The cost objectives."""
        return tuple(o for o in COSTS if o in self.objectives)

    @property
    def qualities(self) -> tuple[str, ...]:
        """The quality objectives."""
        return tuple(o for o in QUALITIES if o in self.objectives)

    def to_yaml(self) -> str:
        """The study as run: defaults spelled out, paths absolute."""
        data = self.model_dump(mode="json")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(
            f"cannot be read: {error.strerror}", field="study", value=str(file), remedy="give the path of a study file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            f"is not YAML: {reason}", field="study", value=str(file), remedy="correct its syntax"
        ) from None
    if not isinstance(raw, dict):
        raise StudyError(
            "must hold keys and values", field="study", value=type(raw).__name__, remedy="start with `name: …`"
        )
    return raw


def _with_overrides(
    raw: Mapping[str, Any],
    trials: int | None,
    workers: int | None,
    storage: str | None,
    output: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    raw = dict(raw)
    for section, key, value in (("search", "trials", trials), ("workers", "count", workers)):
        if value is not None:
            given = raw.get(section)
            raw[section] = {**(given if isinstance(given, dict) else {}), key: value}
    if storage is not None:
        raw["storage"] = problems.absolute_storage(storage, Path.cwd())
    if output is not None:
        raw["output"] = str(Path(output).resolve())
    return raw


def _sections(cls: type[StudySpec], raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Every section on its own, so that an error in one does not hide the errors in another."""
    values: dict[str, Any] = {}
    found = [problems.unknown_key(key, list(cls.model_fields)) for key in raw if key not in cls.model_fields]
    for name, field in cls.model_fields.items():
        if name not in raw:
            if field.is_required():
                found.append(f"{name}: is missing")
            else:
                values[name] = field.default
            continue
        kind: Any = field.annotation if not field.metadata else Annotated[field.annotation, *field.metadata]
        try:
            value = TypeAdapter(kind).validate_python(raw[name])
            values[name] = problems.checked_objectives(value) if name == "objectives" else value
        except ValidationError as error:
            found.extend(problems.explain(error, name, kind))
        except ValueError as error:
            found.append(f"{name}: {error}")
    return values, found


def _all_at_once(found: list[str], source: str) -> StudyError:
    if len(found) == 1:
        field, _, message = found[0].partition(": ")
        return StudyError(message, field=field)
    return StudyError(f"{len(found)} errors: " + " | ".join(found), field=source, remedy="correct these fields")
