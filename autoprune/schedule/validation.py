"""Frozen, strict models, their canonical form, and pydantic's errors in our own words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Strict, ValidationError

from autoprune.errors import AutopruneError

Problem = TypeVar("Problem", bound=AutopruneError)
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]
INSIDE = "@"
"""Root of fields that stand inside the value being checked, whose own place is known further out."""
_LISTED = 20
"""Errors of one file that are spelled out; the others are counted."""


class Part(BaseModel):
    """Base of everything a schedule is made of: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical(values: Any) -> bytes:
    """JSON that is the same for equal values, for hashing."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def explained(
    error: ValidationError, kind: Any, raised: type[Problem], root: str = "", where: str | None = None
) -> Problem:
    """What pydantic refused, the first of a great many, as one error in our words.

    Args:
        error: Of pydantic. What a validator raised as an `AutopruneError` keeps its value and remedy.
        kind: The model, or another annotation, that the values were checked against.
        raised: Class of the result.
        root: Field that the values stand in.
        where: Field of the result if more than one thing is wrong, such as the name of the file.
    """
    found: dict[str, Problem] = {}
    items = error.errors(include_url=False)
    for item in items:
        if len(found) == _LISTED:
            break
        field, keys = _place(kind, item["loc"], root)
        cause = item.get("ctx", {}).get("error")
        message, value, remedy = re.sub("^Value error, ", "", item["msg"]), None, None
        if isinstance(cause, AutopruneError):
            message, value, remedy = cause.message.replace(f"{INSIDE}.", ""), cause.value, cause.remedy
            if (cause.field or "").startswith(INSIDE):
                field += (cause.field or "").removeprefix(INSIDE)
            elif field and cause.field not in (None, field.rpartition(".")[2]):
                message = f"{cause.field}: {message}"
            field = field or cause.field or ""
        elif item["type"] == "extra_forbidden":
            message, remedy = "unknown key", _correction(str(item["loc"][-1]), keys)
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] != "value_error":
            value = item["input"]
            message += " (got None)" if value is None else ""
        problem = raised(message, field=field or None, value=value, remedy=remedy)
        found.setdefault(str(problem), problem)
    if len(found) == 1:
        return next(iter(found.values()))
    many = f"{len(items)} errors, the first {_LISTED}" if len(found) == _LISTED < len(items) else f"{len(found)} errors"
    return raised(f"{many}: {' | '.join(found)}", field=where, remedy="correct these fields")


def _correction(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the keys are {', '.join(known)}" if known else "remove it or correct its spelling"


def _place(kind: Any, loc: tuple[int | str, ...], root: str) -> tuple[str, list[str]]:
    """``stages[1].criterion.rows`` from pydantic's location, without names of union members, and its sibling keys."""
    path, kinds, keys = root, [kind], []
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        models = [model for k in kinds for model in _models(k)]
        members = [m for m in models if any(field.default == part for field in m.model_fields.values())]
        keys = list(dict.fromkeys(name for model in models for name in model.model_fields))
        if part in keys:
            kinds = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        elif len(models) > 1 and members:
            kinds = list(members)
            continue
        elif re.fullmatch(r"[a-z-]+\[.*\]", part) and not any(get_origin(k) is dict for k in kinds):
            continue
        path += f".{part}" if path else part
    return path, keys


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _models(part)
