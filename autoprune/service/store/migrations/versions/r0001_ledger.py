"""The ledger of trials, as `autoprune calibrate` has made it without migrations: the baseline."""

from alembic import op

from autoprune.search.ledger import create_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the ledger's tables where they are missing."""
    create_tables(op.get_bind())
