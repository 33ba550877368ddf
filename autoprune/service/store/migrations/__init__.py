"""History of the service's tables, run by Alembic."""
