"""Runs migrations on the connection that `database.migration_config` hands in."""

from __future__ import annotations

from typing import Any

from alembic import context

from autoprune.service.store.database import VERSION_TABLE
from autoprune.service.store.tables import METADATA


def _ours(name: str | None, kind: str, parents: Any) -> bool:
    return kind != "table" or name in METADATA.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    include_name=_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
