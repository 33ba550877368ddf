"""A Ray for one study on this machine: it listens on the loopback address, and its files are its owner's alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants

from autoprune.errors import ClusterError
from autoprune.search.workers import cleaner

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_ROOT = "/tmp"  # the paths of Ray's sockets must not be longer than 107 characters


def ray_token() -> Path:
    """File of the token that Ray's processes know each other by; Ray makes it where there is none."""
    return Path(os.path.expanduser("~/.ray/auth_token"))


class PrivateRay:
    """Starts Ray, and ends it with `close`; when this process is killed, `cleaner` ends what is left of it.

    Args:
        options: Of `ray.init`.

    Raises:
        ClusterError: it does not start.
    """

    def __init__(self, **options: Any) -> None:
        # Ray opens the folder that it is given to everybody; the one around it stays closed.
        self._folder = Path(tempfile.mkdtemp(prefix="autoprune-", dir=_ROOT if os.path.isdir(_ROOT) else None))
        self._cleaner = subprocess.Popen(
            [sys.executable, "-I", "-S", cleaner.__file__, str(self._folder), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver alone
        )
        try:
            with _on_loopback(), _owner_only():
                ray.init(address="local", _temp_dir=str(self._folder / "ray"), **options)
        except Exception as error:  # Ray raises bare ones, such as that its node timed out
            self.close()
            raise ClusterError(
                f"Ray cannot be started: {' '.join(str(error).split())[:300]}",
                remedy="look at load, memory and disk of this machine, or do without Ray: workers.count 0",
            ) from error
        except BaseException:
            self.close()
            raise
        with suppress(OSError):  # there is none, or it is somebody else's
            ray_token().chmod(0o600)

    def close(self) -> None:
        """Ends Ray's processes and removes their files."""
        ray.shutdown()
        self._cleaner.communicate()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A block in which Ray starts for this machine alone, by the switch that it has for systems without clusters.

    It reads the switch when it is imported, and its processes read it from the environment; the address that
    `ray.init` can be given is replaced by that of the network where it is the loopback address.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    told = os.environ.get(_LOOPBACK)
    os.environ[_LOOPBACK] = "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(_LOOPBACK)
        if told is not None:
            os.environ[_LOOPBACK] = told


@contextmanager
def _owner_only() -> Iterator[None]:
    """A block in which new files, and those of processes that it starts, are closed to others."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
