"""The route of the audit log, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented
from autoprune.service.store.audit import AuditEntry


class AuditPage(BaseModel):
    """Changes, the newest first; `after` of the next page is the last number of this one."""

    entries: list[AuditEntry]
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
        return AuditPage(entries=list(found), next=found[-1].number if len(found) == limit else None)

    return router
