"""What running studies have measured so far, as their events tell it; each event is read once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoprune.report.running import MeasuredTrial
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord

_MOST_STUDIES, _AT_ONCE = 32, 1000


@dataclass
class _Seen:
    last: int = 0
    trials: dict[int, MeasuredTrial] = field(default_factory=dict)


class LiveTrials:
    """Trials of running studies; those of the studies that were looked at last are kept in memory.

    Args:
        events: What drivers told.
    """

    def __init__(self, events: Events) -> None:
        self._events, self._seen, self._lock = events, OrderedDict[str, _Seen](), threading.Lock()

    def of(self, job: JobRecord) -> tuple[int, Sequence[MeasuredTrial]]:
        """Trials that were measured on all calibration rows, and the number of the last event read for them."""
        with self._lock:
            seen = self._seen.setdefault(job.id, _Seen())
            self._seen.move_to_end(job.id)
            while len(self._seen) > _MOST_STUDIES:
                self._seen.popitem(last=False)
            while found := self._events.after(job, seen.last, _AT_ONCE, kind="trial"):
                for event in found:
                    told = event.content["data"]
                    if told["values"]:
                        trial = MeasuredTrial(told["trial"], told["name"] or "", tuple(told["values"]))
                        seen.trials[trial.number] = trial
                seen.last = found[-1].number
            return seen.last, list(seen.trials.values())
