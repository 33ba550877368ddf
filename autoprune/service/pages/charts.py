"""Charts of single studies: each made once for all who look, and looked up in the database at most twice a second."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from autoprune.errors import AutopruneError
from autoprune.evaluate.objectives import OBJECTIVES
from autoprune.report.chart import chart_data
from autoprune.report.running import MeasuredTrial, running_chart
from autoprune.search.front import FrontFile
from autoprune.search.spec import StudySpec
from autoprune.service.pages.fronts import front_of
from autoprune.service.settings import Settings
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import ENDED, JobRecord, Jobs

FRESH = 0.5
"""Seconds for which a chart is given again without a look at the database: many readers cost as much as one."""
_MOST_STUDIES, _AT_ONCE = 32, 1000
_OBJECTIVES: tuple[str, ...] = StudySpec.model_fields["objectives"].default


@dataclass
class _Seen:
    looked: float = -math.inf
    failed: Exception | None = None
    last: int = 0
    trials: dict[int, MeasuredTrial] = field(default_factory=dict)
    made_of: object = None
    tag: str = ""
    chart: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Charts:
    """Charts of studies: of one that runs what it has measured so far, of one that ended its front.

    Charts that were looked at last are kept in memory, and each event of a driver is read once.
    """

    def __init__(self, jobs: Jobs, events: Events, settings: Settings) -> None:
        self._jobs, self._events, self._settings = jobs, events, settings
        self._seen, self._lock = OrderedDict[str, _Seen](), threading.Lock()

    def of(self, id: str) -> tuple[str, bytes]:
        """The chart of a study as JSON, and a tag that is another one as soon as the chart is.

        Raises:
            UnknownJobError: there is no such study.
            StudyError: what the study left is no front.
            SQLAlchemyError: the database is away; readers that waited meanwhile are told so too, and do not try again.
        """
        with self._lock:
            seen = self._seen.setdefault(id, _Seen())
            self._seen.move_to_end(id)
            while len(self._seen) > _MOST_STUDIES:
                self._seen.popitem(last=False)
        with seen.lock:
            if time.monotonic() - seen.looked >= FRESH:
                self._look(id, seen)
            if seen.failed is not None:
                raise seen.failed.with_traceback(None)
            return seen.tag, seen.chart

    def _look(self, id: str, seen: _Seen) -> None:
        try:
            self._make(self._jobs.get(id, "study"), seen)
            seen.failed = None
        except (AutopruneError, SQLAlchemyError) as error:
            seen.failed = error
        seen.looked = time.monotonic()

    def _make(self, job: JobRecord, seen: _Seen) -> None:
        front = None if job.state == "running" else front_of(job, self._settings)
        if front is None:
            self._read(job, seen)
        made_of = (job.state, seen.last) if front is None else front
        if made_of != seen.made_of:
            made = _running(job, seen) if front is None else _ended(front)
            seen.made_of, seen.chart = made_of, json.dumps(made).encode()
            seen.tag = f'"{hashlib.sha256(seen.chart).hexdigest()}"'

    def _read(self, job: JobRecord, seen: _Seen) -> None:
        while found := self._events.after(job, seen.last, _AT_ONCE, kind="trial"):
            for event in found:
                told = event.content["data"]
                if told["values"]:
                    trial = MeasuredTrial(told["trial"], told["name"] or "", tuple(told["values"]))
                    seen.trials[trial.number] = trial
            seen.last = found[-1].number


def _running(job: JobRecord, seen: _Seen) -> dict[str, Any]:
    made = running_chart(_objectives(job), list(seen.trials.values()))
    return made | {"goes_on": job.state not in ENDED}


def _ended(front: FrontFile) -> dict[str, Any]:
    made = chart_data(front)
    return {name: made[name] for name in ("traces", "layout", "below", "note")}


def _objectives(job: JobRecord) -> tuple[str, ...]:
    """Objectives of a study as it was submitted, which was checked then."""
    named = job.request.get("objectives")
    return tuple(named) if isinstance(named, list) and all(name in OBJECTIVES for name in named) else _OBJECTIVES
