"""The work of a job that is a study."""

from __future__ import annotations

import shutil

from autoprune.data.samples import load_samples
from autoprune.report.page import write_report
from autoprune.report.reading import exportable
from autoprune.search.driver import run_study
from autoprune.search.ledger import forget_study
from autoprune.search.workers.protocol import OnEvent
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import JobRecord, Jobs
from autoprune.service.work.places import check_rows
from autoprune.service.work.publication import keep_codebooks
from autoprune.service.work.submission import checked


def work_on_study(job: JobRecord, settings: Settings, on_event: OnEvent) -> bool:
    """Runs a study, or resumes it, and writes its report.

    Returns:
        Whether it came to its end.

    Raises:
        AutopruneError: it cannot run.
    """
    spec = checked(job.request, settings, job.id)
    for part in ("calibration", "validation"):
        rows = getattr(spec.data, part)
        if rows is not None:
            check_rows(f"data.{part}", load_samples(rows.path, **rows.arguments), settings)
    outcome = run_study(spec, on_event=on_event)
    write_report(outcome.front, outcome.output)
    for point in exportable(outcome.front):
        keep_codebooks(point.schedule, settings)  # as they are now: by the time of a request they may have changed
    return not outcome.interrupted


def remove_study(jobs: Jobs, settings: Settings, job_id: str, by: str) -> None:
    """Removes a study that has ended, with its files and its trials on a server.

    Raises:
        UnknownJobError: there is none of this id.
        ConflictError: it has not ended.
    """

    def remove_rest(job: JobRecord) -> None:
        shutil.rmtree(settings.output_of(job.id), ignore_errors=True)
        if settings.on_server:
            forget_study(settings.database_url, job.name)

    jobs.delete(job_id, by, remove_rest)
