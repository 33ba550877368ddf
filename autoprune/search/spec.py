"""A study file as one checked value; all of its errors are reported at once, before a model is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, Tag, ValidationError, ValidationInfo, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from autoprune import presets
from autoprune.errors import ModelError, ScheduleError, StudyError
from autoprune.evaluate.metrics import EXACT_MATCH, load_metric
from autoprune.evaluate.objectives import ACCURACY, COSTS, FLOPS, OBJECTIVES, QUALITIES
from autoprune.models.config import read_config
from autoprune.schedule import ModelIdentity
from autoprune.schedule.files import real_path
from autoprune.schedule.validation import explained
from autoprune.search.initial import baseline
from autoprune.search.sections import (
    ALL,
    All,
    AllOrEach,
    Constraints,
    DataSection,
    Evaluation,
    ModelSection,
    Search,
    Space,
    StudyContext,
    StudySection,
    Workers,
    named_by_the_study,
)
from autoprune.search.study_file import read_study
from autoprune.sources import is_path

_DATABASES = ("sqlite", "postgresql")
_SQLITE = "sqlite:///"


def _baseline(name: str, info: ValidationInfo) -> str:
    """A preset's name, or the absolute path of a schedule file that fits the model or can be mapped to it."""
    context: StudyContext | None = info.context
    if context is None:
        return name
    try:
        baseline(name, context.num_layers or presets.PUBLISHED_DEPTH, context.config, context.base)
    except ScheduleError as error:
        raise named_by_the_study(error, "schedule") from None
    return name if name in presets.NAMES else str(context.place(name))


def _metric(name: str) -> str:
    """The name of a metric that can be loaded."""
    try:
        return load_metric(name).name
    except StudyError as error:
        raise named_by_the_study(error, "metric") from None


_Baseline = Annotated[str, AfterValidator(_baseline)]


class StudySpec(StudySection):
    """A study file (contract of its keys and defaults). Paths are absolute once it is loaded.

    Attributes:
        metric: Judges answers: a name of `METRICS`, or ``vendor/name`` of an installed package.
        baselines: ``all`` = the presets that the model can run; or preset names (mapped to the model's depth) and
            schedule files, those of other models mapped by relative depth.
        storage: Database URL; None = a SQLite file in `output`.
        storage_wait: Seconds to wait for a database that is away before the study gives up.
    """

    name: Annotated[str, Field(min_length=1)]
    model: ModelSection
    data: DataSection
    objectives: tuple[str, ...] = (FLOPS.name, ACCURACY.name)
    metric: Annotated[str, AfterValidator(_metric)] = EXACT_MATCH.name
    evaluation: Evaluation = Evaluation()
    constraints: Constraints = Constraints()
    space: Space = Space()
    baselines: Annotated[All | Annotated[tuple[_Baseline, ...], Tag("tuple[each]")], AllOrEach] = ALL
    search: Search = Search()
    workers: Workers = Workers()
    output: Annotated[str, Field(min_length=1)]
    storage: str | None = None
    storage_wait: Annotated[float, Field(ge=0)] = 900.0

    @field_validator("objectives")
    @classmethod
    def _cost_and_quality(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in given if name not in OBJECTIVES]:
            raise StudyError("no such objective", value=unknown[0], remedy=f"use {', '.join(OBJECTIVES)}")
        if len(set(given)) != len(given):
            raise StudyError("names an objective twice", value=list(given))
        for kind, names in (("cost", COSTS), ("quality", QUALITIES)):
            if not set(names) & set(given):
                raise StudyError(f"needs at least one {kind}: {', '.join(names)}", value=list(given))
        return given

    @field_validator("baselines")
    @classmethod
    def _distinct(cls, names: Any) -> Any:
        if names != ALL and len(set(names)) != len(names):
            raise StudyError("names a baseline twice", value=list(names))
        return names

    @field_validator("output")
    @classmethod
    def _folder(cls, path: str, info: ValidationInfo) -> str:
        context: StudyContext | None = info.context
        if context is None:
            return path
        folder = context.place(path)
        if folder.is_file():
            raise StudyError("is a file, not a folder", value=str(folder))
        return str(folder)

    @field_validator("storage")
    @classmethod
    def _database(cls, url: str | None, info: ValidationInfo) -> str | None:
        context: StudyContext | None = info.context
        return _checked_storage(_absolute_storage(url, context.base)) if url and context else url

    @classmethod
    def load(
        cls,
        study: str | os.PathLike[str] | Mapping[str, Any],
        *,
        trials: int | None = None,
        workers: int | None = None,
        storage: str | None = None,
        output: str | os.PathLike[str] | None = None,
        base: str | os.PathLike[str] = ".",
    ) -> Self:
        """Read and check a study; no model is loaded.

        Args:
            study: A YAML file, at whose folder its relative paths start; or its content, whose relative paths start at
                `base`.
            trials: Wins over ``search.trials``.
            workers: Wins over ``workers.count``.
            storage: Wins over ``storage``; a relative SQLite file starts at the working folder.
            output: Wins over ``output``; starts at the working folder.
            base: Folder of a study that is given as content.

        Raises:
            StudyError: everything that is wrong with the study, in one line.
        """
        if isinstance(study, Mapping):
            values, folder, name = study, Path(base).resolve(), "study"
        else:
            values, folder, name = read_study(Path(study)), Path(study).resolve().parent, Path(study).name
        values = _with_overrides(values, trials, workers, storage, output)
        try:
            return cls.model_validate(values, context=_context(values.get("model"), folder))
        except ValidationError as error:
            raise explained(error, cls, StudyError, where=name) from None

    @property
    def output_path(self) -> Path:
        """Folder that the study writes to."""
        return Path(self.output)

    @property
    def model_name(self) -> str:
        """Name of the model in schedules: its name on the hub, or the last two parts of its folder."""
        return "/".join(Path(self.model.path).parts[-2:])

    def files(self) -> Iterator[tuple[str, str]]:
        """Field and absolute path of every file and folder that a worker reads; names on the hub are none."""
        named: dict[str, Any] = {
            "model": self.model,
            "data.calibration": self.data.calibration,
            "data.validation": self.data.validation,
        }
        named |= {f"space criterion {one.label}": one for one in self.space.named_criteria}
        for field, section in named.items():
            if os.path.isabs(path := getattr(section, "path", None) or ""):
                yield f"{field}.path", path

    @property
    def baseline_files(self) -> list[str]:
        """Absolute paths of the baselines that are schedule files."""
        return [] if self.baselines == ALL else [name for name in self.baselines if name not in presets.NAMES]

    @property
    def storage_url(self) -> str:
        """URL of the database."""
        return self.storage or f"{_SQLITE}{(self.output_path / 'study.db').as_posix()}"

    @property
    def costs(self) -> tuple[str, ...]:
        """The cost objectives."""
        return tuple(o for o in COSTS if o in self.objectives)

    @property
    def qualities(self) -> tuple[str, ...]:
        """The quality objectives."""
        return tuple(o for o in QUALITIES if o in self.objectives)

    def to_yaml(self) -> str:
        """The study as run: defaults spelled out, paths absolute, the database without its password."""
        data = self.model_dump(mode="json")
        if self.storage is not None:
            data["storage"] = make_url(self.storage)._replace(password=None).render_as_string()
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _with_overrides(
    values: Mapping[str, Any],
    trials: int | None,
    workers: int | None,
    storage: str | None,
    output: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    values = dict(values)
    for section, key, value in (("search", "trials", trials), ("workers", "count", workers)):
        if value is not None:
            given = values.get(section)
            values[section] = {**(given if isinstance(given, dict) else {}), key: value}
    if storage is not None:
        values["storage"] = _absolute_storage(storage, Path.cwd())
    if output is not None:
        values["output"] = str(real_path(output))
    return values


def _context(model: Any, base: Path) -> StudyContext:
    """Base folder and model configuration; no configuration if the section `model` cannot be used."""
    bare = StudyContext(base)
    try:
        section = ModelSection.model_validate(model)
    except ValidationError:
        return bare
    path = section.path
    folder = bare.place(path)
    if not folder.is_dir() and is_path(path, base):
        problem = "no such folder; relative paths start at the study file"
        return StudyContext(base, problem=StudyError(problem, value=path))
    try:
        config = read_config(folder if folder.is_dir() else path, options=section)
        return StudyContext(base, config, ModelIdentity.from_config(config, path).num_layers)
    except ModelError as error:
        return StudyContext(base, problem=named_by_the_study(error, "model.path"))


def _absolute_storage(url: str, base: Path) -> str:
    """A SQLite URL whose relative file starts at `base`; other URLs as they are."""
    file = url.removeprefix(_SQLITE)
    if file == url or file.startswith("/") or file in ("", ":memory:"):
        return url
    return _SQLITE + real_path(base / os.path.expanduser(file)).as_posix()


def _checked_storage(url: str) -> str:
    remedy = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StudyError("is no database URL", value=url, remedy=remedy) from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() not in _DATABASES:
        raise StudyError("no such kind of database", value=shown, remedy=remedy)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StudyError("a study in memory could not be resumed", value=shown, remedy=remedy)
        if not Path(parsed.database).parent.is_dir():
            raise StudyError("no such folder", value=shown, remedy="create it first")
    return url
