"""Lines of a JSONL file: bounds that hold before anything is read, and the first line that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from autoprune.errors import DataError

MOST_BYTES: Final = 2_000_000_000
MOST_ROWS: Final = 1_000_000
MOST_ROW_BYTES: Final = 100_000_000
"""Room for a few photographs in base64."""


def check_bounds(file: Path) -> None:
    """Refuses a file of JSON that no memory should be tried with; all its rows are held at once.

    Args:
        file: JSONL, or JSON of one document, which has the first bound alone.

    Raises:
        DataError: it is too large, has too many rows, or one that is too long.
    """
    if (size := file.stat().st_size) > MOST_BYTES:
        raise _beyond(
            file,
            f"has {size:,} bytes; the most are {MOST_BYTES:,}",
            "give fewer rows, or a Parquet file, or images as paths",
        )
    if file.suffix.lower() != ".jsonl":
        return
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(MOST_ROW_BYTES + 1):
            if len(line) > MOST_ROW_BYTES:
                raise _beyond(
                    file, f"row {number} has more than {MOST_ROW_BYTES:,} bytes", "one row a line; give images as paths"
                )
            if number == MOST_ROWS:
                raise _beyond(file, f"has more than {MOST_ROWS:,} rows", "give those that are to be measured")
            number += 1


def bad_line(file: Path) -> str | None:
    """What is wrong with the first line that is no row; None where every line is one."""
    if file.suffix.lower() != ".jsonl":
        return None
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            if line.strip() and not isinstance(json.loads(line), dict):
                return f"row {number} is not a JSON object"
    except json.JSONDecodeError as error:
        return f"row {number} is not JSON ({error.msg} at column {error.colno})"
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    except RecursionError:
        return f"row {number} is nested too deeply"
    return None


def _beyond(file: Path, message: str, remedy: str) -> DataError:
    return DataError(message, field="data.path", value=str(file), remedy=remedy)
