"""The route of the audit log, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented


class AuditView(BaseModel):
    """A change that somebody made; `at` in seconds since 1970."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    at: float
    who: str
    what: str
    on: str
    detail: dict[str, Any]


class AuditPage(BaseModel):
    """Changes, the newest first; `after` of the next page is the last number of this one."""

    entries: list[AuditView]
    next: int | None


def routes(context: ApiContext) -> APIRouter:
    """``/v1/audit``."""
    router = APIRouter(prefix="/v1/audit", tags=["operation"], dependencies=[Depends(context.may("admin"))])

    @router.get("", responses=documented(400))
    def page(
        who: str | None = None,
        what: str | None = None,
        on: str | None = None,
        since: float | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    ) -> AuditPage:
        """Who changed what, the newest first."""
        found = context.audit.page(who, what, on, since, limit, after)
        entries = [AuditView.model_validate(entry) for entry in found]
        return AuditPage(entries=entries, next=found[-1].number if len(found) == limit else None)

    return router
