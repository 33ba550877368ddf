"""Tables of the service: jobs and their events, tokens, audit log, and registry; their history is in `migrations`."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

METADATA = MetaData()

JOBS = Table(
    "autoprune_jobs",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("request", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("idempotency_key", String(200), unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("epoch", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("runner", String(200), nullable=False, default=""),
    Column("lease_until", Float),
    Column("cancelling", Boolean, nullable=False, default=False),
    Column("reason", Text, nullable=False, default=""),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
)
Index("autoprune_jobs_one_of_a_name", JOBS.c.kind, JOBS.c.name, unique=True)

EVENTS = Table(
    "autoprune_events",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job", Integer, ForeignKey(JOBS.c.number, ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("at", Float, nullable=False),
)

TOKENS = Table(
    "autoprune_tokens",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)

AUDIT = Table(
    "autoprune_audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String(200), nullable=False),
    Column("what", String(32), nullable=False),
    Column("on", String(200), nullable=False),
    Column("detail", Text, nullable=False),
)

SCHEDULES = Table(
    "autoprune_schedules",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created", Float, nullable=False),
)

VERSIONS = Table(
    "autoprune_schedule_versions",
    METADATA,
    Column("schedule", Integer, ForeignKey(SCHEDULES.c.number), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),
    Column("content", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("created", Float, nullable=False),
    Column("verdict", Text),
    UniqueConstraint("schedule", "sha256", name="autoprune_schedule_versions_content"),
)

ALIASES = Table(
    "autoprune_schedule_aliases",
    METADATA,
    Column("schedule", Integer, primary_key=True),
    Column("alias", String(50), primary_key=True),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(("schedule", "version"), (VERSIONS.c.schedule, VERSIONS.c.version)),
)

TAGS = Table(
    "autoprune_schedule_tags",
    METADATA,
    Column("schedule", Integer, ForeignKey(SCHEDULES.c.number), primary_key=True),
    Column("tag", String(50), primary_key=True),
    Column("value", String(500), nullable=False),
)

SESSIONS = Table(
    "autoprune_sessions",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("token", Integer, ForeignKey(TOKENS.c.number, ondelete="CASCADE"), nullable=False),
    Column("expires", Float, nullable=False),
)

_CLOCKS = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}


def now(dialect: Dialect) -> ColumnElement[float]:
    """Seconds since 1970 by the clock of the database, the only clock that all machines share."""
    return literal_column(_CLOCKS[dialect.name], Float)
