"""Sessions of browsers: 256 random bits in a cookie, which stand for a token as long as that is valid."""

from __future__ import annotations

import secrets

from sqlalchemy import Engine, delete, insert, select

from autoprune.service.store.tables import SESSIONS, TOKENS, now
from autoprune.service.store.tokens import Token, digest_of, is_valid, token_of

HOURS = 12
"""After which a browser must log in again."""


class Sessions:
    """The sessions in a database.

    A signed cookie would need no table, but it could not be ended before its time, and the key that signs it would have
    to be shared by all processes of the api; of these the database again holds the digest alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = now(engine.dialect)

    def begin(self, token_secret: str) -> str | None:
        """Begins a session of a token's holder.

        Returns:
            The secret of the session; None if the token is nobody's, has expired or was revoked.
        """
        secret = secrets.token_urlsafe(32)
        mine = select(TOKENS.c.number).where(TOKENS.c.digest == digest_of(token_secret), is_valid(self._now))
        with self._engine.begin() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires < self._now))
            number = connection.execute(mine).scalar_one_or_none()
            if number is None:
                return None
            row = {"digest": digest_of(secret), "token": number, "expires": self._now + HOURS * 3600}
            connection.execute(insert(SESSIONS).values(**row))
        return secret

    def holder(self, secret: str) -> Token | None:
        """Whose session this is; None if it has ended, or its token is not valid any more."""
        mine = select(TOKENS).join(SESSIONS, SESSIONS.c.token == TOKENS.c.number)
        mine = mine.where(SESSIONS.c.digest == digest_of(secret), SESSIONS.c.expires > self._now, is_valid(self._now))
        with self._engine.begin() as connection:
            row = connection.execute(mine).first()
        return None if row is None else token_of(row)

    def end(self, secret: str) -> None:
        """Ends a session."""
        with self._engine.begin() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest_of(secret)))
