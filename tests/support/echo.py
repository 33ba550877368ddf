"""An object for another process, which finds this module by the path of the tests."""

from __future__ import annotations

import os
import sys

from autoprune.errors import PatchError


class Echo:
    def __init__(self, word: str) -> None:
        if word == "unmakeable":
            raise PatchError("will not", field="option", remedy="leave it out")
        self._word = word

    def said(self, other: str) -> str:
        sys.stdout.write("printed, and not seen\n")
        sys.stdout.flush()
        return f"{self._word} {other} {os.environ.get('AUTOPRUNE_SCHEDULE')}"

    def wrapped(self) -> None:
        try:
            raise PatchError("deep down", field="inner")
        except PatchError as error:
            raise RuntimeError("outside") from error

    def fails(self) -> None:
        os.write(2, b"what the engine logged\n")
        raise ZeroDivisionError("no such number")

    def dies(self) -> None:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(7)
