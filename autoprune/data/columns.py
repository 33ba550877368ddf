"""Columns of a data set: which field each one holds, and those that look like a field but are none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from autoprune.data.rows import FIELDS
from autoprune.errors import DataError

_NEAR = 0.85  # share of letters in common from which a name passes for a slip: "Answer s" does, "image_id" does not
_ASKED = {
    "system": "messages",
    "system_prompt": "messages",
    "history": "messages",
    "conversation": "messages",
    "conversations": "messages",
}
"""Columns of other layouts that hold a part of what the model is asked, with the field that takes it here."""


def check_columns(columns: Mapping[str, str], present: Sequence[str], data: str) -> tuple[dict[str, str], list[str]]:
    """The column of each field, and the columns that no field takes.

    Data sets carry metadata of their own, so a column that is not read is no error, only listed. It is one where
    dropping it changes what is asked or how it is judged: where its name is nearly a field's (``Answers``,
    ``image_2``), or where it holds a part of the prompt (``system``).

    Args:
        columns: The column that holds a field, for those with other names.
        present: All columns, in the order of the data.
        data: Name of the data set.

    Raises:
        DataError: naming all columns that cannot be left out, or a field or column that does not exist.
    """
    for ours, theirs in columns.items():
        if ours not in FIELDS:
            remedy = f"map one of {', '.join(FIELDS)} to a column"
            raise DataError("no such field", field="data.columns", value=ours, remedy=remedy)
        if theirs not in present:
            remedy = f"the data has {sorted(present)}"
            raise DataError("no such column", field=f"data.columns.{ours}", value=theirs, remedy=remedy)
    names = {field: columns.get(field, field) for field in FIELDS}
    unread = [column for column in present if column not in names.values()]
    meant = {column: field for column in unread if column not in FIELDS and (field := _field_like(column))}
    if meant:
        what = "; ".join(f"{column!r}: did you mean `{field}`?" for column, field in meant.items())
        raise DataError(
            f"{data} has columns that no field takes: {what}",
            field="data.columns",
            remedy="rename them, or map them by `columns: {FIELD: COLUMN}`; rename what is to be ignored, such as to "
            f"{'_'.join(['other', next(iter(meant))])!r}",
        )
    return names, unread


def _field_like(column: str) -> str | None:
    """The field that a column was probably meant for."""
    plain = column.strip().casefold()
    if plain in _ASKED:
        return _ASKED[plain]
    bare = re.sub(r"[^a-z]", "", plain)  # image_1 and images[0] are fields with a number
    if bare in FIELDS and bare != "id":
        return bare
    near = difflib.get_close_matches(plain, FIELDS, 1, _NEAR)
    return near[0] if near else None
