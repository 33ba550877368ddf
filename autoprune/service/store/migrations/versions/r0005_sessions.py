"""Sessions of browsers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes their table."""
    op.create_table(
        "autoprune_sessions",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("token", sa.Integer, sa.ForeignKey("autoprune_tokens.number", ondelete="CASCADE"), nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
    )
