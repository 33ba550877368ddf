"""What becomes of a job whose attempt came to nothing."""

from __future__ import annotations

from autoprune.service.store.jobs import MOST_ATTEMPTS, JobRecord, Jobs


def give_up_attempt(
    jobs: Jobs, job: JobRecord, waits_for: str, *, counted: bool, after_s: float = 0.0, failed: str | None = None
) -> None:
    """Gives a job back for another attempt; one that had all of its attempts fails.

    Args:
        jobs: The jobs.
        job: The job, as it was taken.
        waits_for: What it needs, or what ended the attempt.
        counted: Whether the job may be what ended it.
        after_s: Seconds in which nobody takes it, so that those behind it get their turn.
        failed: Why it failed, for one that had all of its attempts; None = `waits_for`.

    Raises:
        LeaseLostError: another runner may have the job.
    """
    if counted and job.attempts >= MOST_ATTEMPTS:
        jobs.finish(job, "failed", waits_for if failed is None else failed)
    else:
        jobs.give_back(job, waits_for, after_s, counted=counted)
