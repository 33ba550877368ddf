"""A process that ends with the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.service import waited

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child")
CHILD = "import sys, time; from autoprune.service.work.parent import end_with; end_with({}); print('up', flush=True); "
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1].format(os.getpid()) + "time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"  # a zombie has ended
    except FileNotFoundError:
        return False


def test_it_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "up\n"
    assert alive(child)
    parent.kill()
    parent.wait()
    waited(lambda: not alive(child))


def test_it_ends_at_once_when_its_parent_is_gone() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD.format(2**22)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_it_works_on_while_its_parent_lives() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(os.getpid())], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "up\n")
