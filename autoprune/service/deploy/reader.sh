#!/bin/sh
# Run by the image of PostgreSQL when the database is made: a role that can read everything and write nothing.
set -eu
[ -n "${READER_PASSWORD:-}" ] || exit 0
psql -v ON_ERROR_STOP=1 -v password="$READER_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE autoprune_reader LOGIN PASSWORD :'password';
GRANT pg_read_all_data TO autoprune_reader;
ALTER ROLE autoprune_reader SET default_transaction_read_only = on;
SQL
