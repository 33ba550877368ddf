"""Metrics for Prometheus: jobs, as the database has them, and requests of this process."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy import Engine

from autoprune.service.store.survey import survey


class JobCollector(Collector):
    """Reads the jobs whenever metrics are asked for; every api process tells the same.

    Args:
        engine: The database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yields the figures of `survey`."""
        found = survey(self._engine)
        jobs = GaugeMetricFamily("autoprune_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        for labels, count in found.jobs.items():
            jobs.add_metric(labels, count)
        yield jobs
        waiting = "Seconds since the oldest job that waits was submitted."
        yield GaugeMetricFamily("autoprune_oldest_queued_seconds", waiting, found.oldest_queued_s)
        yield GaugeMetricFamily("autoprune_busy_runners", "Runners that hold a job.", found.busy_runners)
        yield GaugeMetricFamily("autoprune_overdue_jobs", "Jobs that lost their runner.", found.overdue)

    def describe(self) -> Iterator[Metric]:
        """Yields nothing: the database is not asked before it must be."""
        return iter(())


def install_metrics(app: FastAPI, engine: Engine) -> None:
    """Adds ``/metrics``: jobs, and requests by route, method and status with their durations."""
    registry = CollectorRegistry()
    registry.register(JobCollector(engine))
    counted = Instrumentator(excluded_handlers=["/metrics", "/healthz", "/readyz", ".*/events"], registry=registry)
    counted.instrument(app).expose(app, tags=["operation"], response_class=PlainTextResponse)
