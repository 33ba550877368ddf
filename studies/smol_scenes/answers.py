"""Writes answers.json: what the built model answers to the first test rows, by plain generate(), for the slow test.

python studies/smol_scenes/answers.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "digit_scenes"))

from evaluation import answers_of, read_rows  # noqa: E402

ROWS = 8


def first_rows(folder: Path) -> Path:
    """A file of the first test rows, whose pictures stay where they are."""
    path = folder / "first.jsonl"
    rows = read_rows(HERE / "test.jsonl")[:ROWS]
    path.write_text("".join(json.dumps({**row, "image": str(HERE / row["image"])}) + "\n" for row in rows))
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = first_rows(Path(folder))
        ids = [row["id"] for row in read_rows(path)]
        answers = dict(zip(ids, answers_of(HERE / "model", path), strict=True))
    (HERE / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    print(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main()
