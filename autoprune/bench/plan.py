"""The plan of a benchmark: schedules, batch sizes and token counts, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from autoprune import presets
from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import cost
from autoprune.schedule import Reads, Schedule

_PUBLISHED = ("vtw", "fastv", "himap", "pyramiddrop")


@dataclass(frozen=True)
class BenchPlan:
    """Settings and schedules of a benchmark, checked before a model is loaded.

    Attributes:
        schedules: By the name under which each is shown.
        batch_sizes: Every one is timed with every number of visual tokens.
        visual_tokens: Of one prompt.
        text_tokens: Of one prompt, after the visual ones.
        new_tokens: Generated from one prompt; the first comes out of the prefill, the others are decode steps.
        repeats: Timed rounds; in each, every arm runs once.
        warmup: Rounds before them that are not timed.
    """

    schedules: Mapping[str, Schedule]
    batch_sizes: Sequence[int] = (1,)
    visual_tokens: Sequence[int] = (576,)
    text_tokens: int = 64
    new_tokens: int = 16
    repeats: int = 5
    warmup: int = 1

    def check(self, config: Any) -> None:
        """Refuse what cannot be run on the model of a config.

        Raises:
            DataError: a count is out of range, or stands twice.
            ModelError: a schedule is not for this model.
            ScheduleError: a criterion cannot be computed.
        """
        least = {"text_tokens": 1, "new_tokens": 1, "repeats": 1, "warmup": 0}
        counts = [(name, getattr(self, name), low) for name, low in least.items()]
        for field in ("batch_sizes", "visual_tokens"):
            values = getattr(self, field)
            counts += [(field, value, 1) for value in values]
            if not values or len(set(values)) < len(values):
                raise DataError("needs at least one value, and each once", field=field, value=list(values))
        for field, value, low in counts:
            if value < low:
                raise DataError(f"must be at least {low}", field=field, value=value)
        architecture, _ = priced(config)
        for name, schedule in self.schedules.items():
            schedule.check_model(config)
            scored = [stage.criterion for stage in schedule.stages if stage.selects]
            if any(criterion is not None and criterion.reads is Reads.TOWER for criterion in scored):
                raise ScheduleError(
                    "is scored by the vision tower, which a benchmark of the text model does not run",
                    field="schedule",
                    value=name,
                    remedy="time it with `autoprune verify` on images, or leave it out",
                )
            if architecture is not None:
                most = self.visual_tokens[0]
                cost(architecture, schedule, most, self.text_tokens, kept=[most] * len(schedule.stages))


def priced(config: Any) -> tuple[Architecture | None, str]:
    """The shapes that a price needs, or why there are none."""
    try:
        return Architecture.from_config(config), ""
    except ModelError as error:
        return None, f"no FLOPs: {error}"


def choose_schedules(names: Sequence[str], depth: int) -> dict[str, Schedule]:
    """Schedules by the name under which they are shown.

    Args:
        names: Schedule files and names of presets; none = the published methods that a model of this depth can hold.
        depth: Decoder layers, to which the layers of presets are mapped.

    Raises:
        ScheduleError: a name is neither, is given twice, or the model is too shallow for it.
    """
    chosen: dict[str, Schedule] = {}
    if not names:
        for name in _PUBLISHED:
            with suppress(ScheduleError):  # too shallow: said where the user asks for it
                chosen[name] = presets.for_depth(name, depth)
        return chosen
    for name in names:
        if name in chosen:
            raise ScheduleError("is given twice", field="schedule", value=name, remedy="give each schedule once")
        chosen[name] = presets.resolve(name, depth)
    return chosen
