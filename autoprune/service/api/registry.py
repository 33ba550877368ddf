"""Routes of the registry: schedules under a name and a version, their aliases and tags."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from autoprune.service.api.codebooks import Digest, KeptCodebook, codebook_reply, kept_codebooks
from autoprune.service.api.context import ApiContext
from autoprune.service.api.problems import documented
from autoprune.service.store.lineage import Lineage
from autoprune.service.store.registry import ScheduleName, Version
from autoprune.service.work.publication import Publication, keep_codebooks

NAME, WORD = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", "^[A-Za-z][A-Za-z0-9._-]{0,49}$"
"""Names of schedules; names of aliases and tags."""
Name = Annotated[str, Path(pattern=NAME)]
Word = Annotated[str, Path(pattern=WORD)]
NumberOrAlias = Annotated[str, Path(pattern="^([0-9]{1,9}|[A-Za-z][A-Za-z0-9._-]{0,49})$")]
Limit = Annotated[int, Query(ge=1, le=200)]


class PublishedSchedule(BaseModel):
    """A version as it was published: nothing of it ever changes."""

    name: str
    version: int
    sha256: str
    by: str
    created: float
    lineage: Lineage
    codebooks: list[KeptCodebook]
    schedule: dict[str, Any]


class SchedulePage(BaseModel):
    """Names in their order; `after` of the next page is the last name of this one."""

    schedules: list[ScheduleName]
    next: str | None


class VersionPage(BaseModel):
    """Versions, the newest first; `after` of the next page is the last number of this one."""

    versions: list[Version]
    next: int | None


def routes(context: ApiContext) -> APIRouter:
    """``/v1/schedules``."""
    may, registry, settings = context.may, context.registry, context.settings
    router = APIRouter(prefix="/v1/schedules", tags=["registry"], dependencies=[Depends(may("read"))])

    @router.get("", responses=documented(400))
    def names(limit: Limit = 50, after: str = "") -> SchedulePage:
        """Names of published schedules."""
        page = registry.names(limit, after)
        return SchedulePage(schedules=list(page), next=page[-1].name if len(page) == limit else None)

    @router.get("/{name}", responses=documented(400, 404))
    def get(name: Name) -> ScheduleName:
        """A name, with its newest version, its aliases and its tags."""
        return registry.get(name)

    @router.post(
        "/{name}/versions",
        status_code=201,
        responses={200: {"model": Version}, **documented(400, 403, 404, 413, 422)},
    )
    def publish(
        name: Name, publication: Publication, response: Response, caller: str = Depends(may("write"))
    ) -> Version:
        """Publishes a point of a study, or a schedule, as the next version; 200 where the name has this content."""
        publication.check()
        if publication.study is not None:
            folder = context.output_file(publication.study, "front.json").parent
            schedule, lineage = publication.of_study(folder)
        else:
            schedule, lineage = publication.of_file(settings)
        version, new = registry.publish(name, keep_codebooks(schedule, settings), lineage, caller)
        response.status_code = 201 if new else 200
        response.headers["location"] = f"/v1/schedules/{name}/versions/{version.version}"
        return version

    @router.get("/{name}/versions", responses=documented(400, 404))
    def versions(
        name: Name, limit: Limit = 50, after: Annotated[int | None, Query(ge=0, lt=2**31)] = None
    ) -> VersionPage:
        """Versions of a name with their lineage and what the last verification of each found."""
        page = registry.versions(name, limit, after)
        return VersionPage(versions=list(page), next=page[-1].version if len(page) == limit else None)

    @router.get(
        "/{name}/versions/{version}",
        response_model=PublishedSchedule,
        responses={304: {"description": "It is the version that If-None-Match names."}, **documented(400, 404)},
    )
    def version(
        name: Name, version: NumberOrAlias, response: Response, if_none_match: Annotated[str, Header()] = ""
    ) -> PublishedSchedule | Response:
        """A version by its number or an alias; its ETag is the SHA-256 of the schedule's canonical JSON."""
        wanted = registry.version(name, version)
        headers = {"etag": f'"{wanted.sha256}"', "cache-control": "private, no-cache"}
        if _names(if_none_match, wanted.sha256):
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        content = registry.content(wanted)
        shown = {key: getattr(wanted, key) for key in ("name", "version", "sha256", "by", "created", "lineage")}
        return PublishedSchedule(**shown, codebooks=kept_codebooks(content), schedule=content)

    @router.get(
        "/{name}/versions/{version}/codebooks/{sha256}", response_class=FileResponse, responses=documented(400, 404)
    )
    def codebook(name: Name, version: NumberOrAlias, sha256: Digest) -> FileResponse:
        """A codebook of a version (safetensors)."""
        return codebook_reply(registry.content(registry.version(name, version)), sha256, settings)

    @router.put("/{name}/aliases/{alias}", responses=documented(400, 403, 404))
    def set_alias(
        name: Name,
        alias: Word,
        version: Annotated[int, Body(embed=True, ge=1, lt=2**31)],
        caller: str = Depends(may("write")),
    ) -> ScheduleName:
        """Lets an alias lead to a version, wherever it led before."""
        return registry.set_alias(name, alias, version, caller)

    @router.delete("/{name}/aliases/{alias}", status_code=204, responses=documented(400, 403, 404))
    def drop_alias(name: Name, alias: Word, caller: str = Depends(may("write"))) -> None:
        """Removes an alias."""
        registry.drop_alias(name, alias, caller)

    @router.put("/{name}/tags/{tag}", responses=documented(400, 403, 404))
    def set_tag(
        name: Name,
        tag: Word,
        value: Annotated[str, Body(embed=True, max_length=500, pattern="^[^\\x00]*$")],
        caller: str = Depends(may("write")),
    ) -> ScheduleName:
        """Gives a name a tag, or its tag another value."""
        return registry.set_tag(name, tag, value, caller)

    @router.delete("/{name}/tags/{tag}", status_code=204, responses=documented(400, 403, 404))
    def drop_tag(name: Name, tag: Word, caller: str = Depends(may("write"))) -> None:
        """Removes a tag."""
        registry.drop_tag(name, tag, caller)

    return router


def _names(if_none_match: str, sha256: str) -> bool:
    """Whether an If-None-Match holds the tag of this content."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or f'"{sha256}"' in tags
