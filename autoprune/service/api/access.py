"""Who may ask what of the api."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastapi import Request

from autoprune.service.api.problems import DeniedError
from autoprune.service.store.audit import LOCAL
from autoprune.service.store.tokens import ROLES, Role, Tokens

Permission: TypeAlias = Callable[[Role], Callable[[Request], str]]
"""A dependency for each role, which gives the caller's name: ``caller: str = Depends(may("write"))``."""


def guarded_by(tokens: Tokens) -> Permission:
    """A dependency for each role: that the caller has it. Where there are no tokens, everybody has, as ``local``."""

    def may(role: Role) -> Callable[[Request], str]:
        def check(request: Request) -> str:
            if not tokens.exist:
                return LOCAL
            scheme, _, secret = request.headers.get("authorization", "").partition(" ")
            holder = tokens.holder(secret.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                raise DeniedError("needs a valid token", 401, remedy="send it as `Authorization: Bearer TOKEN`")
            if ROLES.index(holder.role) < ROLES.index(role):
                raise DeniedError(f"needs a token for {role}", 403, field="role", value=holder.role)
            return holder.name

        return check

    return may
