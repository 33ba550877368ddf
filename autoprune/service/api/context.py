"""What the routes of the api have in common."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from autoprune.service.api.access import Permission, guarded_by
from autoprune.service.settings import Settings
from autoprune.service.store.audit import Audit
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import Jobs
from autoprune.service.store.tokens import Tokens


@dataclass(frozen=True)
class ApiContext:
    """The record of the service, and who may touch it.

    Attributes:
        settings: Of the service.
        engine: Its database.
        jobs: The jobs in it.
        events: Their events.
        audit: Who changed what.
        may: Dependency of a route: that the caller has a role.
    """

    settings: Settings
    engine: Engine
    jobs: Jobs
    events: Events
    audit: Audit
    may: Permission

    @classmethod
    def on(cls, engine: Engine, settings: Settings) -> ApiContext:
        """What the routes need, on a database."""
        jobs = Jobs(engine, settings.lease_s)
        return cls(settings, engine, jobs, Events(engine), Audit(engine), guarded_by(Tokens(engine)))
