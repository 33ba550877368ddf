"""What a study tries on its model, and what it leaves out because this model cannot run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoprune import presets
from autoprune.errors import ScheduleError
from autoprune.models.capabilities import layers_without_attention, missing_sources
from autoprune.schedule import Criterion
from autoprune.search.initial import InitialSchedule, baseline
from autoprune.search.methods import LeftOut
from autoprune.search.sections import ALL
from autoprune.search.space import SearchSpace
from autoprune.search.spec import StudySpec


@dataclass(frozen=True)
class Scope:
    """Space and baselines of a study on one model.

    Attributes:
        space: What it searches.
        baselines: What it measures beside the front, by name.
        left_out: Criteria and presets that it does not try, with the reason.
    """

    space: SearchSpace
    baselines: tuple[InitialSchedule, ...]
    left_out: tuple[LeftOut, ...]

    @classmethod
    def of(cls, spec: StudySpec, config: Any, num_layers: int, refused: Mapping[str, str] | None = None) -> Scope:
        """The scope of a study.

        Args:
            spec: The study.
            config: The model's config.
            num_layers: Its decoder layers.
            refused: Reasons by label of the criterion, of those that only the loaded model refuses.

        Raises:
            StudyError: the file names a criterion that the model cannot run.
        """
        named, left_out = _baselines(spec, config, num_layers)
        missing = missing_sources(config)
        used = (*spec.space.all_criteria, *(c for b in named for c in _criteria(b)))
        reasons = {c.label: missing[c.reads] for c in used if c.reads in missing} | dict(refused or {})
        blind = layers_without_attention(config)
        space = SearchSpace.of(spec.space, num_layers, reasons, blind)
        lost = {b.name: reasons[c.label] for b in named for c in _criteria(b) if c.label in reasons}
        lost |= {b.name: why for b in named if (why := _unread(b, blind)) is not None}
        left_out += [LeftOut(f"baseline {name}", why) for name, why in lost.items()]
        kept = tuple(b for b in named if b.name not in lost)
        return cls(space, kept, (*space.left_out, *left_out))

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """Every criterion that the search or a baseline uses."""
        of_baselines = (c for b in self.baselines for c in _criteria(b))
        return tuple(dict.fromkeys((*self.space.criteria, *of_baselines)))


def _baselines(spec: StudySpec, config: Any, num_layers: int) -> tuple[list[InitialSchedule], list[LeftOut]]:
    """Baselines that fit the depth of the model, and presets that do not fit or need a file."""
    if spec.baselines != ALL:
        return [baseline(name, num_layers, config) for name in spec.baselines], []
    found, left_out = [], [LeftOut(f"baseline {name}", why) for name, why in presets.NEED_A_FILE.items()]
    for name in presets.NAMES:
        try:
            found.append(baseline(name, num_layers, config))
        except ScheduleError as error:
            left_out.append(LeftOut(f"baseline {name}", error.message))
    return [b for b in found if b.schedule.stages], left_out


def _criteria(initial: InitialSchedule) -> list[Criterion]:
    return [s.criterion for s in initial.schedule.stages if s.selects and s.criterion]


def _unread(initial: InitialSchedule, blind: frozenset[int]) -> str | None:
    """Why a schedule's scores cannot be read on a model with these layers without attention; None if they can."""
    for stage in initial.schedule.stages:
        read = stage.criterion.layer_read(stage.layer) if stage.selects and stage.criterion else None
        if read in blind:
            return f"before layer {stage.layer} it reads layer {read}, which has no attention"
    return None
