"""A small study in a folder of its own, its drivers as processes, and what its database holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support.processes import actors_of, processes_of_session, processes_with, start_calibrate, wait_until
from support.trials import ended_twice, stored

from autoprune.search.spec import StudySpec

HERE = Path(__file__).parent
MODEL_STUDY = HERE.parent / "digit_scenes"
MARK = "AUTOPRUNE_FAULTS"
"""Environment variable of every process of a scene; its value is the folder of the scene."""
_ROWS = {"calibration": 24, "validation": 16}
_SLOW = "0.3"
_BEGIN_S = 300
_HALF: dict[str, bytes] = {}
"""Files of a study of which half was run, once one was."""


@dataclass
class Driver:
    """A driver of the study: a process whose output goes to files.

    Attributes:
        hung: Whether it had to be killed because it was over its limit.
    """

    process: subprocess.Popen[str]
    folder: Path
    number: int
    began: float
    hung: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, *numbers: int, pause: float = 1.0) -> None:
        for i, number in enumerate(numbers):
            time.sleep(pause if i else 0)
            self.process.send_signal(number)

    def end(self, limit: float) -> None:
        """Waits until it ends; over its limit, it is killed."""
        try:
            self.process.wait(timeout=max(1.0, limit - (time.monotonic() - self.began)))
        except subprocess.TimeoutExpired:
            self.hung = True
            self.process.kill()
            self.process.wait()

    @property
    def code(self) -> int | None:
        return self.process.returncode

    @property
    def out(self) -> str:
        return (self.folder / f"out{self.number}").read_text(errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / f"err{self.number}").read_text(errors="replace")

    @property
    def message(self) -> str:
        """What it says at its end: its error, or the last warning."""
        try:
            answer = json.loads(self.out)
        except ValueError:
            answer = {}
        if "error" in answer:
            return " ".join(str(answer["error"].get(k) or "") for k in ("field", "message", "remedy")).strip()
        warnings = [line for line in self.err.splitlines() if line.startswith("warning: ")]
        about_the_plan = ("search.trials is", "is left out")
        told = [line.removeprefix("warning: ") for line in warnings if not any(w in line for w in about_the_plan)]
        return told[-1] if told else "complete" if answer.get("complete") else ""


class Scene:
    """The study of one fault.

    Attributes:
        sessions: First processes of the sessions in which its programs run.

    Args:
        folder: Empty folder, with a short path: Ray makes sockets below it.
        workers: Worker processes; 0 = in the driver.
        storage: URL of its database; None = a file beside its results.
        sections: Further keys of the study file.
    """

    def __init__(self, folder: Path, *, workers: int, storage: str | None = None, **sections: Any) -> None:
        self.folder = folder
        self.sessions: list[int] = []
        self._drivers = 0
        for what, rows in _ROWS.items():
            lines = (MODEL_STUDY / f"{what}.jsonl").read_text().splitlines()[:rows]
            (folder / f"{what}.jsonl").write_text("\n".join(lines) + "\n")
            for line in lines:
                image = json.loads(line)["image"]
                (folder / image).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(MODEL_STUDY / image, folder / image)
        shutil.copytree(MODEL_STUDY / "model", folder / "model")
        study: dict[str, Any] = {
            "name": "faults",
            "model": {"path": "model"},
            "data": {what: {"path": f"{what}.jsonl"} for what in _ROWS},
            "baselines": ["vtw", "fastv", "himap", "pyramiddrop"],
            "search": {"trials": 24},
            "workers": {"count": workers},
            "output": "run",
            "storage": storage,
            "storage_wait": 60,
        }
        self.study = folder / "study.yaml"
        self.study.write_text(yaml.safe_dump(study | sections))
        self.steer("slow", _SLOW)

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def steer(self, name: str, text: str = "") -> None:
        """Writes a file that the engine looks at."""
        (self.folder / name).write_text(text)

    def start(self, study: Path | None = None, *options: str, **environment: str) -> Driver:
        """A driver; `options` are those of the command."""
        self._drivers += 1
        out, err = ((self.folder / f"{what}{self._drivers}").open("w") for what in ("out", "err"))
        mark = {MARK: str(self.folder), "RAY_TMPDIR": str(self.folder)}
        process = start_calibrate(
            study or self.study,
            "steered_engine",
            *options,
            modules=HERE,
            env=mark | environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        self.sessions.append(process.pid)
        return Driver(process, self.folder, self._drivers, time.monotonic())

    def stopped(self) -> None:
        """Half of a study was run before; this half is the same for all that ask."""
        if not _HALF:
            driver = self.searching()
            driver.signal(signal.SIGTERM)
            driver.end(300)
            assert driver.code == 143, driver.err
            _HALF.update({file.name: file.read_bytes() for file in self.output.iterdir()})
        self.output.mkdir(exist_ok=True)
        for name, content in _HALF.items():
            (self.output / name).write_bytes(content)

    def searching(self, tasks: int = 5, **environment: str) -> Driver:
        """A driver in the middle of its search."""
        driver = self.start(**environment)
        self.until_tasks(driver, tasks)
        return driver

    def finishing(self, **environment: str) -> Driver:
        """A driver in the middle of its final measurements."""
        driver = self.start(**environment)
        self.until_tasks(driver, 1, "validation")
        return driver

    def until_tasks(self, driver: Driver, count: int, split: str = "calibration") -> None:
        """Waits until so many tasks were begun; the dense one is the first."""
        wait_until(lambda: len(self._tasks(split)) >= count, driver.process, _BEGIN_S)

    def working(self) -> int:
        """Process of the worker that began the latest task."""
        return int((self.folder / "tasks.log").read_text().splitlines()[-1].split()[0])

    def loading(self, driver: Driver) -> int:
        """Process of a worker that loads the model."""
        wait_until(lambda: actors_of(driver.pid), driver.process, _BEGIN_S)
        return actors_of(driver.pid)[0]

    def _tasks(self, split: str) -> list[str]:
        log = self.folder / "tasks.log"
        return [line for line in log.read_text().splitlines() if line.split()[1] == split] if log.exists() else []

    def processes(self) -> list[int]:
        """Processes that were started for this scene and live."""
        marked = processes_with(MARK, str(self.folder))
        return sorted({*marked, *(pid for session in self.sessions for pid in processes_of_session(session))})

    def finished(self) -> dict[int, Any]:
        """State and values of the trials that have ended, by number."""
        if not self._has_begun():
            return {}
        try:
            trials = stored(StudySpec.load(self.study))
        except KeyError:  # there is no such study yet
            return {}
        return {t.number: (t.state.name, t.values) for t in trials if t.state.is_finished()}

    def doubled(self) -> list[str]:
        """Schedules that were finished twice."""
        return ended_twice(StudySpec.load(self.study)) if self._has_begun() else []

    def _has_begun(self) -> bool:
        return StudySpec.load(self.study).storage is not None or (self.output / "study.db").exists()

    def close(self) -> None:
        """Ends what is left of it."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
