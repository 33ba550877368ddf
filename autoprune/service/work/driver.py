"""The process of one job: ``python -m autoprune.service.work.driver JOB EPOCH PARENT``, started by a runner."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from types import FrameType

import structlog

from autoprune.errors import AutopruneError, ClusterBusyError, ClusterError, StudyHeldError
from autoprune.search.stopping import StoppedBySignal
from autoprune.search.workers.protocol import Event, OnEvent
from autoprune.service.logs import configure_logs
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_engine
from autoprune.service.store.jobs import JobRecord, Jobs, Kind, LeaseLostError
from autoprune.service.work.attempts import give_up_attempt
from autoprune.service.work.heartbeat import FENCED, Heartbeat
from autoprune.service.work.parent import end_with

log = structlog.get_logger("autoprune.service.driver")  # `__name__` is that of a script
_AGAIN_S = 15.0
"""Seconds for which a job that the cluster could not take lets others go first."""


def _study(job: JobRecord, settings: Settings, on_event: OnEvent) -> bool:
    from autoprune.service.work.study import work_on_study  # many seconds, in which the lease is already renewed

    return work_on_study(job, settings, on_event)


def _verification(job: JobRecord, settings: Settings, on_event: OnEvent) -> bool:
    from autoprune.service.work.verification import work_on_verification  # as above

    return work_on_verification(job, settings, on_event)


WORK: Mapping[Kind, Callable[[JobRecord, Settings, OnEvent], bool]] = {"study": _study, "verification": _verification}
"""What is done for a kind of job; says whether it came to its end."""


def run_job(jobs: Jobs, job: JobRecord, settings: Settings) -> None:
    """Works on a job until it ends; one that was asked to stop but not to end is given back.

    So is one that waited in vain for room on the cluster, or whose last driver is not known to be dead yet, without
    counting that as an attempt, and one under which the cluster died, which may be what killed it.

    Raises:
        LeaseLostError: another runner may have the job.
    """
    beat = Heartbeat(jobs, job)
    signal.signal(signal.SIGTERM, _end)
    problem: str | None = None
    waits: ClusterError | StudyHeldError | None = None
    complete = False
    try:
        with beat:
            complete = WORK[job.kind](job, settings, told(beat.note))
    except KeyboardInterrupt:  # a signal; what it asks for stands below
        pass
    except (ClusterError, StudyHeldError) as error:
        waits = error
    except AutopruneError as error:
        problem = str(error)
    except Exception as error:  # the border of the job: whatever it is becomes its reason
        log.exception("the job failed")
        problem = f"{type(error).__name__}: {error}; this is a bug in autoprune: {_place(error)}"
    if problem is not None:
        jobs.finish(job, "failed", problem)
    elif beat.cancelled:
        jobs.finish(job, "cancelled")
    elif waits is not None:
        counted = not isinstance(waits, ClusterBusyError | StudyHeldError)
        give_up_attempt(jobs, job, waits.message, counted=counted, after_s=_AGAIN_S, failed=str(waits))
    elif not complete:
        jobs.give_back(job)
    else:
        jobs.finish(job, "done")


def told(on_event: OnEvent) -> OnEvent:
    """A listener that also writes each event but progress into the log; of a trial its number and how it ended."""

    def listen(event: Event) -> None:
        if event.kind == "trial":
            log.info("a trial ended", **event.data)
        elif event.kind != "progress":
            log.log(logging.WARNING if event.kind == "warning" else logging.INFO, event.message)
        on_event(event)

    return listen


def _end(signum: int, frame: FrameType | None) -> None:
    raise StoppedBySignal(signum)


def _place(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def main() -> int:
    """Runs the job that the command line names."""
    job_id, epoch, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    configure_logs()
    settings = Settings.read()
    jobs = Jobs(open_engine(settings.database_url), settings.lease_s)
    job = jobs.get(job_id)
    if job.epoch != epoch or job.state != "running":
        return FENCED
    structlog.contextvars.bind_contextvars(**{job.kind: job.id}, job_name=job.name)
    try:
        run_job(jobs, job, settings)
    except LeaseLostError:
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main())
