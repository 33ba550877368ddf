"""Bearer tokens: 256 random bits, of which the database holds the SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Engine, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from autoprune.service.store.audit import LOCAL, OPERATOR, record
from autoprune.service.store.jobs import ConflictError
from autoprune.service.store.tables import TOKENS, now

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")
"""Each may do what those before it may."""


@dataclass(frozen=True)
class Token:
    """A token, without what makes it secret.

    Attributes:
        name: Who has it.
        role: What it may do.
        created: Seconds since 1970, as `expires` and `revoked`.
    """

    name: str
    role: Role
    created: float
    expires: float | None
    revoked: float | None


class Tokens:
    """The tokens in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = now(engine.dialect)

    def create(self, name: str, role: Role, days: float | None = None, by: str = OPERATOR) -> str:
        """Makes a token.

        Args:
            name: Who is to have it.
            role: What it may do.
            days: After which it expires; None = never.
            by: Who makes it.

        Returns:
            The secret, which is shown this once.

        Raises:
            ConflictError: there is one of this name, or the audit log means something else by it.
        """
        if name in (LOCAL, OPERATOR):
            raise ConflictError("has another meaning in the audit log", field="name", value=name, remedy="use another")
        secret = secrets.token_urlsafe(32)
        expires = None if days is None else self._now + days * 86400
        row = {"name": name, "digest": digest_of(secret), "role": role, "created": self._now, "expires": expires}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(TOKENS).values(**row))
                record(connection, by, "token.create", name, role=role, days=days)
        except IntegrityError:
            remedy = "choose another name: the audit log keeps it"
            raise ConflictError("a token of this name exists", field="name", value=name, remedy=remedy) from None
        return secret

    def holder(self, secret: str) -> Token | None:
        """Whose token this is; None if it is nobody's, has expired or was revoked."""
        mine = select(TOKENS).where(TOKENS.c.digest == digest_of(secret), is_valid(self._now))
        with self._engine.begin() as connection:
            row = connection.execute(mine).first()
        return None if row is None else token_of(row)

    @property
    def exist(self) -> bool:
        """Whether there are any, also such as are not valid any more."""
        with self._engine.begin() as connection:
            return connection.execute(select(TOKENS.c.number).limit(1)).first() is not None

    @property
    def now(self) -> float:
        """Seconds since 1970 by the clock of the database, which decides whether a token has expired."""
        with self._engine.begin() as connection:
            return float(connection.execute(select(self._now)).scalar_one())

    def all(self) -> Sequence[Token]:
        """All tokens, in the order of their making."""
        with self._engine.begin() as connection:
            return [token_of(row) for row in connection.execute(select(TOKENS).order_by(TOKENS.c.number))]

    def revoke(self, name: str, by: str = OPERATOR) -> bool:
        """Ends a token; whether there was one to end."""
        mine = update(TOKENS).where(TOKENS.c.name == name, TOKENS.c.revoked.is_(None))
        with self._engine.begin() as connection:
            if connection.execute(mine.values(revoked=self._now).returning(TOKENS.c.number)).first() is None:
                return False
            record(connection, by, "token.revoke", name)
            return True


def digest_of(secret: str) -> str:
    """What the database holds of a secret; one with 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_valid(at: ColumnElement[float]) -> ColumnElement[bool]:
    """Of a row of tokens: it is neither revoked nor expired."""
    return and_(TOKENS.c.revoked.is_(None), or_(TOKENS.c.expires.is_(None), TOKENS.c.expires > at))


def token_of(row: object) -> Token:
    """The token in a row."""
    return Token(**{name: getattr(row, name) for name in Token.__dataclass_fields__})
