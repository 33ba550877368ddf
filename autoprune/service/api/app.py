"""The api as an app (OpenAPI 3.1 at /openapi.json)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from sqlalchemy import Engine
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

import autoprune
from autoprune.service.api import audit, operation, registry, results, studies, verifications
from autoprune.service.api.bodies import check_text
from autoprune.service.api.border import Border
from autoprune.service.api.context import ApiContext
from autoprune.service.api.metrics import install_metrics
from autoprune.service.api.problems import documented, install
from autoprune.service.pages import routing
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """The app on a database.

    Args:
        settings: Of the service.
        engine: The database, with its tables; None = that of the settings.

    Raises:
        StorageError: the database cannot be opened, or has another schema.
    """
    database = engine or open_database(settings.database_url)
    context = ApiContext.on(database, settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        database.dispose()

    app = FastAPI(
        title="autoprune",
        version=autoprune.__version__,
        description="Studies of visual-token pruning: submitted, watched, and exported as schedules.",
        lifespan=life,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses=documented(401, 403, 429, 503),
    )
    install(app)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.most_bytes)
    app.add_middleware(Border, local_only=settings.is_loopback)
    for room in (operation, studies, results, verifications, registry, audit):
        app.include_router(room.routes(context), dependencies=[Depends(check_text)])
    app.include_router(routing.routes(context))
    install_metrics(app, database)
    return app
