"""Everything autoprune raises on purpose.

One small tree: a caller catches `AutopruneError`, or a leaf, or the builtin that the leaf also is. Every error is one
line that names the field, the value and the remedy, so that it can be printed as it is.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any

_LONGEST = 300
"""Characters of a field or value that an error shows; of a longer one its two ends."""
_LONGEST_MESSAGE = 10_000
"""Likewise of a message, which may hold a value of the user's, or list everything that is wrong with a study file."""

_BRIEF = reprlib.Repr()
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = _BRIEF.maxset = 20
_BRIEF.maxstring = _BRIEF.maxother = _LONGEST


class AutopruneError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What is wrong, one line.
        field: The field, option or argument that is wrong, such as ``stages[1].layer``.
        value: The offending value.
        remedy: What the user can do about it.
    """

    def __init__(self, message: str, *, field: str | None = None, value: Any = None, remedy: str | None = None) -> None:
        message = shortened(message, _LONGEST_MESSAGE)
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{shortened(self.field)}: " if self.field else ""
        got = f" (got {_shown(self.value)})" if self.value is not None else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{got}{remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process borders (workers); keyword arguments do not survive the default pickling.
        return _rebuild, (type(self), self.message, self.field, self.value, self.remedy)

    def to_dict(self) -> dict[str, Any]:
        """The error as the JSON object that ``--json`` prints."""
        field = None if self.field is None else shortened(self.field)
        return {"field": field, "value": _plain(self.value), "message": self.message, "remedy": self.remedy}


def _plain(value: Any) -> Any:
    """A value that JSON holds and that is short: text, a number or None; others in words."""
    if isinstance(value, str):
        return shortened(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else _shown(value)
    return None if value is None else _shown(value)


def _shown(value: Any) -> str:
    try:
        return shortened(_BRIEF.repr(value))
    except (ValueError, RecursionError):  # Python prints no integer of more than 4,300 digits
        return f"{type(value).__name__} that is too long to print"


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text, or of a long one its two ends."""
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-longest // 2 :]}"


def _rebuild(
    kind: type[AutopruneError], message: str, field: str | None, value: Any, remedy: str | None
) -> AutopruneError:
    return kind(message, field=field, value=value, remedy=remedy)


class ScheduleError(AutopruneError, ValueError):
    """A schedule is malformed or contradicts itself."""


class ScheduleMissingError(ScheduleError):
    """No schedule is given, and none is beside the weights."""


class StudyError(AutopruneError, ValueError):
    """A study file is malformed; all of its errors are in one message."""


class StudyHeldError(StudyError):
    """Another driver holds the study, or its folder, and may yet let go."""


class DataError(AutopruneError, ValueError):
    """A data set or one of its rows cannot be used."""


class ModelError(AutopruneError, ValueError):
    """A model cannot be loaded, is not supported, or is not the one that a schedule was made for."""


class PatchError(AutopruneError, RuntimeError):
    """A patched forward pass would be inexact or silently inactive."""


class EvaluationError(AutopruneError, RuntimeError):
    """One candidate could not be evaluated (non-finite logits, out of memory); the study goes on."""


class StorageError(AutopruneError, RuntimeError):
    """The database of a study cannot be opened or written."""


class ClusterError(AutopruneError, RuntimeError):
    """Ray's own processes died, or have no room for a worker any more."""


class ClusterBusyError(ClusterError):
    """A Ray cluster cannot take a study now, because it does not answer or others use it; later it may."""
