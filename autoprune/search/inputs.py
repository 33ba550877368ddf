"""Inputs of a study: configuration and data, read before a model is loaded; and what the study would do with them."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from autoprune.errors import StudyError
from autoprune.schedule import ModelIdentity
from autoprune.search.initial import initial_schedules
from autoprune.search.space import SearchSpace
from autoprune.search.spec import StudySpec
from autoprune.search.workers.local import backend_module
from autoprune.search.workers.protocol import Inputs


def read_inputs(spec: StudySpec, backend: str = "autoprune.search.workers.engine") -> Inputs:
    """Configuration and data of a study; loads no model.

    Raises:
        StudyError: a task of ``constraints.max_drop`` is not in the data.
        DataError: rows that cannot be used.
    """
    inputs = backend_module(backend).read_inputs(spec)
    _check_tasks(spec, inputs)
    return inputs


@dataclass(frozen=True)
class StudyPlan:
    """A study before it runs.

    Attributes:
        initial_schedules: How many are tried before any is drawn, by origin.
        calibration_samples: Rows of the search.
        validation_samples: Held-out rows; 0 = none.
    """

    name: str
    model: str
    model_type: str
    num_layers: int
    calibration_samples: int
    validation_samples: int
    tasks: tuple[str, ...]
    objectives: tuple[str, ...]
    layers: tuple[int, ...]
    keep: tuple[float, ...]
    criteria: tuple[str, ...]
    max_stages: int
    initial_schedules: dict[str, int]
    trials: int
    workers: int
    output: str
    storage: str

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
    space = SearchSpace.of(spec.space, inputs.num_layers)
    origins = [o.origin for o in initial_schedules(spec.baselines, space, inputs.num_layers)]
    return StudyPlan(
        name=spec.name,
        model=spec.model.path,
        model_type=ModelIdentity.from_config(inputs.config, spec.model.path).model_type,
        num_layers=inputs.num_layers,
        calibration_samples=inputs.calibration.size,
        validation_samples=inputs.validation.size if inputs.validation else 0,
        tasks=_tasks(inputs),
        objectives=spec.objectives,
        layers=space.layers,
        keep=space.keep,
        criteria=tuple(space.criteria),
        max_stages=space.max_stages,
        initial_schedules={origin: origins.count(origin) for origin in dict.fromkeys(origins)},
        trials=spec.search.trials,
        workers=spec.workers.count,
        output=spec.output,
        storage=spec.storage_url,
    )


def _check_tasks(spec: StudySpec, inputs: Inputs) -> None:
    known = ("*", *_tasks(inputs))
    for task in spec.constraints.max_drop:
        if task not in known:
            near = difflib.get_close_matches(task, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(known[1:]) or 'none'}"
            raise StudyError("no row has this task", field="constraints.max_drop", value=task, remedy=hint)


def _tasks(inputs: Inputs) -> tuple[str, ...]:
    return tuple(sorted({task for task in inputs.calibration.tasks if task is not None}))
