"""Who may ask what of the api: a bearer token, or the session of a browser that stands for one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fastapi import Request, Response
from sqlalchemy import Engine

from autoprune.service.api.limits import Limits
from autoprune.service.api.problems import DeniedError
from autoprune.service.store.audit import LOCAL
from autoprune.service.store.sessions import HOURS, Sessions
from autoprune.service.store.tokens import ROLES, Role, Token, Tokens, digest_of

Permission: TypeAlias = Callable[[Role], Callable[[Request], str]]
"""A dependency for each role, which gives the caller's name: ``caller: str = Depends(may("write"))``."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: Of the token; `LOCAL` where there are none.
        role: What it may do.
        csrf: What a request that changes something must bring beside the session's cookie; empty without a session.
    """

    name: str
    role: Role
    csrf: str = ""

    def has(self, role: Role) -> bool:
        """Whether its role is this one or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Access:
    """Tells who asks, and refuses who may not.

    A request that changes something and is allowed by a cookie must prove that it comes from a page of ours. Two walls
    beside the cookie's SameSite=Strict, as the OWASP cheat sheet on cross-site request forgery advises: the browser's
    own word on where the request comes from, which `Border` reads for all requests without a bearer token, and a token
    that is bound to the session, in a header or in the form.

    Args:
        engine: The database.
        rate: Requests of one caller, such as ``600/minute``.
    """

    def __init__(self, engine: Engine, rate: str) -> None:
        self._tokens, self._sessions, self._limits = Tokens(engine), Sessions(engine), Limits(rate)
        self._proven: set[str] = set()  # digests of tokens that were valid: wrong ones of a neighbour do not stop them

    @property
    def is_open(self) -> bool:
        """Whether there are no tokens: everybody may do everything, and only this machine is served."""
        return not self._tokens.exist

    def may(self, role: Role) -> Callable[[Request], str]:
        """A dependency: that the caller has a role; gives the caller's name."""

        def check(request: Request) -> str:
            caller: Caller = getattr(request.state, "caller", None) or self._caller(request)  # counted once
            if not caller.has(role):
                raise DeniedError(f"needs a token for {role}", 403, field="role", value=caller.role)
            return caller.name

        return check

    def still_allows(self, request: Request, role: Role) -> bool:
        """Whether who asked for a reply that goes on may still have it; this counts as no request.

        Args:
            request: Which was allowed when it came.
            role: That it needs.
        """
        if self.is_open:
            return True
        secret = _bearer_secret(request)
        holder = self._tokens.holder(secret) if secret is not None else self._holder_of_session(request)
        return holder is not None and Caller(holder.name, holder.role).has(role)

    def log_in(self, request: Request, response: Response, secret: str) -> None:
        """Begins a session for the holder of a token, and gives the browser its cookie.

        Raises:
            DeniedError: the token is not valid, or too many from this address were not.
        """
        self._check_guesses(request, secret)
        session = self._sessions.begin(secret)
        self._learn(request, secret, session is not None)
        if session is None:
            raise DeniedError("is not valid", 401, field="token", remedy="check it; it may be revoked or expired")
        secure = request.url.scheme == "https"
        response.set_cookie(
            _cookie(request), session, HOURS * 3600, httponly=True, samesite="strict", secure=secure, path="/"
        )

    def log_out(self, request: Request, response: Response) -> None:
        """Ends the session of a browser."""
        self._sessions.end(request.cookies.get(_cookie(request), ""))
        response.delete_cookie(
            _cookie(request), httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
        )

    def _caller(self, request: Request) -> Caller:
        if self.is_open:
            self._limits.count("address", _address(request))
            caller = Caller(LOCAL, "admin")
        else:
            secret = _bearer_secret(request)
            caller = self._session(request) if secret is None else self._bearer(request, secret)
            self._limits.count("name", caller.name)
        request.state.caller = caller
        return caller

    def _bearer(self, request: Request, secret: str) -> Caller:
        self._check_guesses(request, secret)
        holder = self._tokens.holder(secret)
        self._learn(request, secret, holder is not None)
        if holder is None:
            raise _unknown()
        return Caller(holder.name, holder.role)

    def _check_guesses(self, request: Request, secret: str) -> None:
        if digest_of(secret) not in self._proven:
            self._limits.check_guesses(_address(request))

    def _learn(self, request: Request, secret: str, valid: bool) -> None:
        if valid:
            self._proven.add(digest_of(secret))
        else:
            self._proven.discard(digest_of(secret))
            self._limits.count_guess(_address(request))

    def _session(self, request: Request) -> Caller:
        holder = self._holder_of_session(request)
        if holder is None:
            self._limits.count("address", _address(request))
            raise _unknown()
        session = request.cookies[_cookie(request)]
        csrf = hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()
        brought: str = request.headers.get(CSRF_HEADER, getattr(request.state, "csrf", ""))
        if request.method not in SAFE_METHODS and not hmac.compare_digest(brought.encode(), csrf.encode()):
            raise DeniedError(
                "does not come from a page of this service", 403, field=CSRF_HEADER, remedy="load the page again"
            )
        return Caller(holder.name, holder.role, csrf)

    def _holder_of_session(self, request: Request) -> Token | None:
        session = request.cookies.get(_cookie(request))
        return self._sessions.holder(session) if session else None


def _bearer_secret(request: Request) -> str | None:
    """The token that a request brings; None where it brings none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _unknown() -> DeniedError:
    return DeniedError(
        "needs a valid token",
        401,
        remedy="send it as `Authorization: Bearer TOKEN`, or log in",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _cookie(request: Request) -> str:
    """Name of the cookie; over https one that no other host of the domain can set."""
    return "__Host-autoprune" if request.url.scheme == "https" else "autoprune"
