"""Replies of the service's api."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from autoprune.service.store.tokens import ROLES, Tokens


def problem(reply: Any, status: int) -> dict[str, Any]:
    """The error of a reply with this status, in the shape of all errors."""
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"field", "value", "message", "remedy"}
    return error


def with_tokens(engine: Engine) -> dict[str, dict[str, str]]:
    """Headers of a caller with each role; the name of the token is the role's."""
    tokens = Tokens(engine)
    return {role: {"Authorization": f"Bearer {tokens.create(role, role)}"} for role in ROLES}
