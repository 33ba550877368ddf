"""Inputs of a study: configuration and data, read before a model is loaded; and what the study would do with them."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from autoprune.errors import ModelError, StudyError
from autoprune.pricing.architecture import Architecture
from autoprune.schedule import ModelIdentity
from autoprune.search.estimate import Expected, estimate
from autoprune.search.initial import initial_schedules, without_a_draw
from autoprune.search.scope import Scope
from autoprune.search.spec import StudySpec
from autoprune.search.workers.local import backend_module
from autoprune.search.workers.protocol import Inputs, SplitFacts

if TYPE_CHECKING:
    from autoprune.evaluate.preflight import Preflight


def read_inputs(spec: StudySpec, backend: str = "autoprune.search.workers.engine") -> Inputs:
    """Configuration and data of a study; loads no model.

    Raises:
        StudyError: a task of ``constraints.max_drop`` is not in the data.
        DataError: rows that cannot be used.
        ModelError: the decoder has no price.
    """
    inputs = backend_module(backend).read_inputs(spec)
    _check_tasks(spec, inputs)
    _check_priced(inputs.config)
    return inputs


@dataclass(frozen=True)
class StudyPlan:
    """A study before it runs.

    Attributes:
        methods: Selection methods, each a criterion without or with merging.
        schedules: How many distinct ones the space has.
        left_out: Criteria and presets that are not tried, with the reason.
        baselines: Published methods and schedule files that are measured beside the front.
        initial_schedules: How many are tried before any is drawn, by origin.
        calibration_samples: Rows of the search.
        calibration_rows: How many of them are judged by what, see `SampleSet.kinds`.
        validation_samples: Held-out rows; 0 = none.
        validation_rows: As `calibration_rows`.
        unread_columns: Columns of the data that no field takes.
        warnings: What is worth a second look before it runs.
    """

    name: str
    model: str
    model_type: str
    num_layers: int
    calibration_samples: int
    calibration_rows: dict[str, int]
    validation_samples: int
    validation_rows: dict[str, int]
    unread_columns: tuple[str, ...]
    tasks: tuple[str, ...]
    objectives: tuple[str, ...]
    layers: tuple[int, ...]
    keep: tuple[float, ...]
    mass: tuple[float, ...]
    methods: tuple[str, ...]
    max_stages: int
    schedules: int
    left_out: tuple[str, ...]
    baselines: tuple[str, ...]
    initial_schedules: dict[str, int]
    trials: int
    workers: int
    output: str
    storage: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)


def plan_study(spec: StudySpec) -> StudyPlan:
    """Plan of a study, for ``--dry-run``; loads no model, writes nothing.

    Raises:
        StudyError: a task of ``constraints.max_drop`` is not in the data.
        DataError: rows that cannot be used.
    """
    inputs = read_inputs(spec)
    scope = Scope.of(spec, inputs.config, inputs.num_layers)
    space = scope.space
    origins = [o.origin for o in initial_schedules(scope.baselines, space, inputs.num_layers)]
    return StudyPlan(
        name=spec.name,
        model=spec.model.path,
        model_type=ModelIdentity.from_config(inputs.config, spec.model.path).model_type,
        num_layers=inputs.num_layers,
        calibration_samples=inputs.calibration.size,
        calibration_rows=dict(inputs.calibration.kinds),
        validation_samples=inputs.validation.size if inputs.validation else 0,
        validation_rows=dict(inputs.validation.kinds) if inputs.validation else {},
        unread_columns=tuple(dict.fromkeys(column for data in _splits(inputs) for column in data.unread)),
        tasks=_tasks(inputs),
        objectives=spec.objectives,
        layers=space.layers,
        keep=space.keep,
        mass=space.mass,
        methods=tuple(space.methods),
        max_stages=space.max_stages,
        schedules=space.size(),
        left_out=tuple(f"{what}: {why}" for what, why in scope.left_out),
        baselines=tuple(b.name for b in scope.baselines),
        initial_schedules={origin: origins.count(origin) for origin in dict.fromkeys(origins)},
        trials=spec.search.trials,
        workers=spec.workers.count,
        output=spec.output,
        storage=spec.storage_url,
        warnings=(idle,) if (idle := without_a_draw(spec.search.trials, len(origins))) else (),
    )


def _check_priced(config: Any) -> None:
    try:
        Architecture.from_config(config)
    except ModelError as error:
        raise ModelError(
            f"this decoder has no price ({error.message}), and every point of a front has its FLOPs, whatever the "
            "objectives are",
            field=f"model.{error.field}",
            value=error.value,
            remedy="a schedule of your own can be timed on it with `autoprune bench`",
        ) from error


def look_at(spec: StudySpec, backend: str = "autoprune.search.workers.engine") -> tuple[Preflight, Expected]:
    """A first look at the model of a study, loaded in this process, and what the study will take.

    Raises:
        ModelError: the model cannot be loaded or measured.
        EvaluationError: the dense model itself fails.
    """
    inputs, found = read_inputs(spec, backend), backend_module(backend).preflight(spec)
    return found, estimate(spec, inputs, Scope.of(spec, inputs.config, inputs.num_layers), found)


def _check_tasks(spec: StudySpec, inputs: Inputs) -> None:
    known = ("*", *_tasks(inputs))
    for task in spec.constraints.max_drop:
        if task not in known:
            near = difflib.get_close_matches(task, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(known[1:]) or 'none'}"
            raise StudyError("no row has this task", field="constraints.max_drop", value=task, remedy=hint)


def _splits(inputs: Inputs) -> list[SplitFacts]:
    return [data for data in (inputs.calibration, inputs.validation) if data is not None]


def _tasks(inputs: Inputs) -> tuple[str, ...]:
    return tuple(sorted({task for task in inputs.calibration.tasks if task is not None}))
