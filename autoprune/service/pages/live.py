"""Charts of running studies, from their events: each event is read once, and each chart made once for all who look."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoprune.report.running import MeasuredTrial, running_chart
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import ENDED, JobRecord

_MOST_STUDIES, _AT_ONCE = 32, 1000


@dataclass
class _Seen:
    last: int = 0
    trials: dict[int, MeasuredTrial] = field(default_factory=dict)
    tag: str = ""
    chart: bytes = b""


class LiveCharts:
    """Charts of what studies have measured so far; those that were looked at last are kept in memory.

    Args:
        events: What drivers told.
    """

    def __init__(self, events: Events) -> None:
        self._events, self._seen, self._lock = events, OrderedDict[str, _Seen](), threading.Lock()

    def of(self, job: JobRecord, objectives: Sequence[str]) -> tuple[str, bytes]:
        """The chart of a study as JSON, and a tag that is another one as soon as the chart is.

        Args:
            job: The study.
            objectives: Their names.
        """
        with self._lock:
            seen = self._seen.setdefault(job.id, _Seen())
            self._seen.move_to_end(job.id)
            while len(self._seen) > _MOST_STUDIES:
                self._seen.popitem(last=False)
            self._read(job, seen)
            tag = f'"{job.state}-{seen.last}"'
            if tag != seen.tag:
                chart = running_chart(objectives, list(seen.trials.values()))
                seen.tag, seen.chart = tag, json.dumps(chart | {"goes_on": job.state not in ENDED}).encode()
            return seen.tag, seen.chart

    def _read(self, job: JobRecord, seen: _Seen) -> None:
        while found := self._events.after(job, seen.last, _AT_ONCE, kind="trial"):
            for event in found:
                told = event.content["data"]
                if told["values"]:
                    trial = MeasuredTrial(told["trial"], told["name"] or "", tuple(told["values"]))
                    seen.trials[trial.number] = trial
            seen.last = found[-1].number
