"""What the routes of the api have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from autoprune.service.api.access import Access, Permission
from autoprune.service.api.problems import not_left
from autoprune.service.settings import Settings
from autoprune.service.store.audit import Audit
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import Jobs
from autoprune.service.store.registry import Registry


@dataclass(frozen=True)
class ApiContext:
    """The record of the service, and who may touch it.

    Attributes:
        settings: Of the service.
        engine: Its database.
        jobs: The jobs in it.
        events: Their events.
        audit: Who changed what.
        registry: Published schedules.
        access: Who asks, and what they may.
    """

    settings: Settings
    engine: Engine
    jobs: Jobs
    events: Events
    audit: Audit
    registry: Registry
    access: Access

    @classmethod
    def on(cls, engine: Engine, settings: Settings) -> ApiContext:
        """What the routes need, on a database."""
        return cls(
            settings=settings,
            engine=engine,
            jobs=Jobs(engine, settings.lease_s),
            events=Events(engine),
            audit=Audit(engine),
            registry=Registry(engine),
            access=Access(engine, settings.rate),
        )

    @property
    def may(self) -> Permission:
        """Dependency of a route: that the caller has a role."""
        return self.access.may

    def output_file(self, id: str, name: str) -> Path:
        """A file that a study has left.

        Raises:
            UnknownJobError: there is no such study.
            NotThereError: it has not come that far, or never will.
        """
        job = self.jobs.get(id, "study")
        found = self.settings.output_of(job.id) / name
        if not found.is_file():
            raise not_left(job, found.stem)
        return found
