"""Who may ask what of the api."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastapi import Request

from autoprune.service.api.problems import DeniedError
from autoprune.service.store.tokens import ROLES, Role, Tokens

Permission: TypeAlias = Callable[[Role], Callable[[Request], None]]


def guarded_by(tokens: Tokens) -> Permission:
    """A dependency for each role: that the caller has it. Where there are no tokens, everybody has."""

    def may(role: Role) -> Callable[[Request], None]:
        def check(request: Request) -> None:
            if not tokens.exist:
                return
            scheme, _, secret = request.headers.get("authorization", "").partition(" ")
            holder = tokens.holder(secret.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                raise DeniedError("needs a valid token", 401, remedy="send it as `Authorization: Bearer TOKEN`")
            if ROLES.index(holder.role) < ROLES.index(role):
                raise DeniedError(f"needs a token for {role}", 403, field="role", value=holder.role)

        return check

    return may
