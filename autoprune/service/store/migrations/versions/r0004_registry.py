"""The registry of schedules: names, versions, aliases and tags."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the four tables."""
    op.create_table(
        "autoprune_schedules",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "autoprune_schedule_versions",
        sa.Column("schedule", sa.Integer, sa.ForeignKey("autoprune_schedules.number"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.UniqueConstraint("schedule", "sha256", name="autoprune_schedule_versions_content"),
    )
    op.create_table(
        "autoprune_schedule_aliases",
        sa.Column("schedule", sa.Integer, primary_key=True),
        sa.Column("alias", sa.String(50), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ("schedule", "version"), ("autoprune_schedule_versions.schedule", "autoprune_schedule_versions.version")
        ),
    )
    op.create_table(
        "autoprune_schedule_tags",
        sa.Column("schedule", sa.Integer, sa.ForeignKey("autoprune_schedules.number"), primary_key=True),
        sa.Column("tag", sa.String(50), primary_key=True),
        sa.Column("value", sa.String(500), nullable=False),
    )
