"""An engine steered by files in the folder of its study, so that a test can slow it, break it or kill it.

``loading`` (seconds that loading takes), ``broken`` (loading fails), ``slow`` (seconds per task), ``poison`` (keys of
schedules that kill the worker), ``failing`` (that fail), ``bug`` (that raise what no candidate is to blame for),
``gone`` (a split whose images cannot be read any more), ``tasks.log`` (written: one line per task with process, split,
rows and keys).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from autoprune.errors import EvaluationError
from autoprune.schedule import Schedule


class Steering:
    """What the files say, read anew at every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> None:
        """Before a worker loads its model."""
        self._sleep("loading")
        if (self.folder / "broken").exists():
            raise EvaluationError("the dense model gives non-finite logits", remedy="use another dtype")

    def work(self, schedules: Sequence[Schedule], what: str) -> None:
        """Before a worker does a task."""
        with (self.folder / "tasks.log").open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()} {what} {' '.join(s.key for s in schedules)}\n")
        self._sleep("slow")
        if what.split()[0] in self.words("gone"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "image.png")
        for schedule in schedules:
            if schedule.key in self.words("poison"):
                os.kill(os.getpid(), signal.SIGKILL)
            if schedule.key in self.words("failing"):
                raise EvaluationError("non-finite logits")
            if schedule.key in self.words("bug"):
                raise TypeError("a bug")

    def words(self, name: str) -> list[str]:
        """Words of a file; none where it is missing."""
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def _sleep(self, name: str) -> None:
        for seconds in self.words(name):
            time.sleep(float(seconds))
