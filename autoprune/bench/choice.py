"""Which schedules are timed: files and presets by name, or the published methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from autoprune import presets
from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule

_PUBLISHED = ("vtw", "fastv", "himap", "pyramiddrop")


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
