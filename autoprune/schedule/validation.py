"""Frozen, strict models, their canonical form, and their findings in our own words."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Strict, ValidationError

from autoprune.errors import ScheduleError

Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


class Part(BaseModel):
    """Base of everything a schedule is made of: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical(values: Any) -> bytes:
    """JSON that is the same for equal values, for hashing."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def explained(error: ValidationError, root: str) -> ScheduleError:
    """All findings of pydantic as one error in our words."""
    texts = []
    for item in error.errors():
        message = re.sub("^Value error, ", "", item["msg"])
        if item["type"] == "extra_forbidden":
            message = "unknown key: remove it or correct its spelling"
        elif item["type"] == "missing":
            message = "is missing"
        got = f" (got {item['input']!r})" if item["type"] not in ("missing", "value_error") else ""
        field = _path(item["loc"], root)
        texts.append(f"{field}: {message}{got}" if field else f"{message}{got}")
    if len(texts) > 1:
        return ScheduleError(" | ".join(texts), remedy="correct these fields")
    field = _path(error.errors()[0]["loc"], root)
    return ScheduleError(texts[0].removeprefix(f"{field}: "), field=field or None)


def _path(loc: tuple[int | str, ...], root: str) -> str:
    """``stages[1].criterion.rows`` from pydantic's location, without the union tags."""
    path = root
    for before, part in zip((root, *loc), loc, strict=False):
        if isinstance(part, int):
            path += f"[{part}]"
        elif before == "criterion":
            continue  # the tag of the union, which is the criterion's name
        else:
            path += f".{part}" if path else part
    return path
