"""Logs as a collector of logs reads them: one JSON object per line, with the study and the trial that it is about."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import logging, structlog
from autoprune.search.workers.protocol import Event
from autoprune.service.logs import configure_logs
from autoprune.service.work.driver import told
configure_logs()
structlog.contextvars.bind_contextvars(study="4f", job_name="mine")
heard = []
listen = told(heard.append)
listen(Event("phase", "searching"))
listen(Event("progress", "", 1, 9))
listen(Event("trial", "", 1, 9, {"trial": 7, "name": "vtw", "state": "COMPLETE", "values": [0.4, 0.9]}))
listen(Event("warning", "two\\nlines"))
logging.getLogger("somebody.else").warning("of a %s", "library")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("x").exception("it failed")
assert len(heard) == 4
"""

TERMINAL = """
import sys, structlog
from autoprune.service.logs import configure_logs
sys.stderr.isatty = lambda: True
configure_logs()
def connect(address):
    1 / 0
try:
    connect("postgresql://me:" + "-".join(["the", "password"]) + "@host")
except ZeroDivisionError:
    structlog.get_logger("x").exception("it failed")
"""


def test_a_terminal_shows_where_it_failed_but_no_values() -> None:
    done = subprocess.run([sys.executable, "-c", TERMINAL], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in done.stderr
    assert "the-password" not in done.stderr


def test_every_line_is_an_object_that_says_whose_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {(line["study"], line["job_name"]) for line in lines} == {("4f", "mine")}
    assert [line["event"] for line in lines] == [
        "searching",
        "a trial ended",
        "two\nlines",
        "of a library",
        "it failed",
    ]
    assert (lines[1]["trial"], lines[1]["state"]) == (7, "COMPLETE")
    assert [line["level"] for line in lines] == ["info", "info", "warning", "warning", "error"]
    assert "ZeroDivisionError" in lines[-1]["exception"]
    assert all("timestamp" in line for line in lines)
