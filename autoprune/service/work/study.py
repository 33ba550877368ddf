"""The work of a job that is a study."""

from __future__ import annotations

from autoprune.data.samples import load_samples
from autoprune.report.page import write_report
from autoprune.search.driver import run_study
from autoprune.search.workers.protocol import OnEvent
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import JobRecord
from autoprune.service.work.places import check_rows
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
    return not outcome.interrupted
