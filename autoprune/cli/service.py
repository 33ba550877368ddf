"""``autoprune serve | runner | token | db``: the service, its runners, who may use it, and its tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Json
from autoprune.cli.output import emit, note, stdout, table

if TYPE_CHECKING:
    from autoprune.service.store.tokens import Token, Tokens


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", help="Port (default 8321).")] = None,
    runners: Annotated[
        int | None, typer.Option("--runners", metavar="N", help="Runner processes beside the api (default 1).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve studies over HTTP; settings are variables AUTOPRUNE_SERVICE_…."""
    from autoprune.service.logs import configure_logs
    from autoprune.service.serving import serve as run
    from autoprune.service.settings import Settings

    settings = Settings.read(host=host, port=port, runners=runners)
    configure_logs()
    run(settings)


def runner(debug: Debug = False) -> None:
    """Run queued studies of a service, on this machine, until SIGTERM or Ctrl-C."""
    from autoprune.service.work.runner import main

    main()


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who is to have it.")],
    role: Annotated[str, typer.Option("--role", help="read, write or admin.")] = "read",
    days: Annotated[float | None, typer.Option("--days", metavar="N", help="Days after which it expires.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a token; it is shown this once."""
    from autoprune.service.store.tokens import ROLES

    if role not in ROLES:
        raise InputError("no such role", field="--role", value=role, remedy=f"use {', '.join(ROLES)}")
    if days is not None and not days > 0:
        raise InputError("must be above 0", field="--days", value=days)
    secret = _tokens().create(name, next(known for known in ROLES if known == role), days)
    if as_json:
        emit({"name": name, "role": role, "token": secret})
    else:
        note("shown this once:")
        stdout().print(secret, soft_wrap=True)


def listed(as_json: Json = False, debug: Debug = False) -> None:
    """Names, roles and states of all tokens."""
    from dataclasses import asdict

    tokens = _tokens()
    found, now = tokens.all(), tokens.now
    if as_json:
        emit({"tokens": [asdict(one) for one in found]})
        return
    rows = table("tokens", "name")
    for column in ("role", "state"):
        rows.add_column(column)
    for one in found:
        rows.add_row(one.name, one.role, _state(one, now))
    stdout().print(rows)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """End a token."""
    if not _tokens().revoke(name):
        raise InputError("no valid token of this name", field="NAME", value=name, remedy="see `autoprune token list`")
    if as_json:
        emit({"revoked": name})
    else:
        note(f"revoked: {name}")


def upgrade(as_json: Json = False, debug: Debug = False) -> None:
    """Bring the tables of a service to this release; back the database up first, and stop the runners."""
    from autoprune.service.settings import Settings
    from autoprune.service.store.database import open_engine
    from autoprune.service.store.database import upgrade as run

    run(open_engine(Settings.read().database_url))
    if as_json:
        emit({"upgraded": True})
    else:
        note("the database is up to date")


def _state(token: Token, now: float) -> str:
    """Of a token, in words; its end in UTC, as every machine of the service reads it."""
    if token.revoked is not None:
        return "revoked"
    if token.expires is None:
        return "valid"
    if token.expires <= now:
        return "expired"
    return f"until {datetime.fromtimestamp(token.expires, UTC):%Y-%m-%d %H:%M} UTC"


def _tokens() -> Tokens:
    from autoprune.service.settings import Settings
    from autoprune.service.store.database import open_database
    from autoprune.service.store.tokens import Tokens

    return Tokens(open_database(Settings.read().database_url))
