"""A study as the pages show it: where it stands, and how far it got."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.service.store.events import Events, StoredEvent
from autoprune.service.store.jobs import ENDED, JobRecord


@dataclass(frozen=True)
class ShownStudy:
    """A study on a page.

    Attributes:
        job: The study.
        said: What it does now, without figures that change all the time; empty once it has ended.
        done: How much of the present phase is done.
        total: Of how much; None where that is not known or nothing runs.
        seconds: How long it ran, or has been running.
    """

    job: JobRecord
    said: str
    done: int = 0
    total: int | None = None
    seconds: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens any more."""
        return self.job.state in ENDED


def study_views(jobs: Sequence[JobRecord], events: Events) -> list[ShownStudy]:
    """Studies as they stand now."""
    running = [job for job in jobs if job.state == "running"]
    phases, steps = events.latest(running, "phase"), events.latest(running, "progress", "trial")
    return [_view(job, phases.get(job.id), steps.get(job.id)) for job in jobs]


def _view(job: JobRecord, phase: StoredEvent | None, step: StoredEvent | None) -> ShownStudy:
    seconds = None if job.started is None else max(0.0, (job.ended or time.time()) - job.started)
    if job.state != "running":
        return ShownStudy(job, "waits for a runner" if job.state == "queued" else "", seconds=seconds)
    said = "ending: what runs is finished" if job.cancelling else phase.content["message"] if phase else "starting"
    newest = step if step is not None and (phase is None or step.number > phase.number) else phase
    if newest is None:
        return ShownStudy(job, said, seconds=seconds)
    return ShownStudy(job, said, newest.content["done"], newest.content["total"], seconds)
