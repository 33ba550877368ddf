"""Frozen, strict models, their canonical form, and pydantic's errors in our own words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Strict, ValidationError

from autoprune.errors import AutopruneError

Problem = TypeVar("Problem", bound=AutopruneError)
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]
INSIDE = "@"
"""Root of fields that stand inside the value being checked, whose own place is known further out."""
_LISTED = 20
"""Errors of one file that are spelled out; the others are counted."""

_SECTIONS = ("model_type", "model_attributes_type", "dict_type", "mapping_type", "dataclass_type")
_LIST = ("must be a list", "write it in square brackets, such as [a, b]")
_WHOLE, _NUMBER, _TRUTH, _TEXT = (
    (f"must be {what}", None) for what in ("a whole number", "a number", "true or false", "text")
)
_WORDS: Final[dict[str, tuple[str, str | None]]] = {
    **dict.fromkeys(_SECTIONS, ("must hold keys and values", None)),
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), _LIST),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
    **dict.fromkeys(("string_type", "string_unicode"), _TEXT),
    "string_too_short": ("must not be empty", None),
    "too_short": ("must have at least {min_length} entries", None),
    "finite_number": ("must be finite", None),
    "greater_than": ("must be more than {gt}", None),
    "greater_than_equal": ("must be at least {ge}", None),
    "less_than": ("must be less than {lt}", None),
    "less_than_equal": ("must be at most {le}", None),
    "literal_error": ("must be {expected}", None),
    "enum": ("must be {expected}", None),
}
"""What pydantic refuses and what to write instead, by the type of its error."""


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
        field, keys, inside = _place(kind, item["loc"], root)
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
            message, remedy = _in_words(item, field, inside)
            message += " (got None)" if value is None else ""
        problem = raised(message, field=field or None, value=value, remedy=remedy)
        found.setdefault(str(problem), problem)
    if len(found) == 1:
        return next(iter(found.values()))
    many = f"{len(items)} errors, the first {_LISTED}" if len(found) == _LISTED < len(items) else f"{len(found)} errors"
    return raised(f"{many}: {' | '.join(found)}", field=where, remedy="correct these fields")


def _in_words(item: Any, field: str, inside: list[str]) -> tuple[str, str | None]:
    """What pydantic refused about a value, and what to write, in the words of a file's author.

    Args:
        item: Of pydantic's errors.
        field: Where the value stands.
        inside: The keys of the section that is expected there, if one is.
    """
    message, remedy = _WORDS.get(item["type"], (item["msg"], None))
    if item["type"] in _SECTIONS and inside:
        remedy = f"write `{field.rpartition('.')[2]}: {{{inside[0]}: …}}`; its keys are {', '.join(inside)}"
    return message.format(**item.get("ctx", {})), remedy


def _correction(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the keys are {', '.join(known)}" if known else "remove it or correct its spelling"


def _place(kind: Any, loc: tuple[int | str, ...], root: str) -> tuple[str, list[str], list[str]]:
    """``stages[1].criterion.rows`` from pydantic's location, without names of union members.

    Returns:
        The place, the keys beside it, and the keys of the section that belongs there.
    """
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
    return path, keys, [name for k in kinds for model in _models(k) for name in model.model_fields]


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _models(part)
