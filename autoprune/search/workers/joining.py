"""The Ray of a study: a private one on this machine, or the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from autoprune.errors import ClusterBusyError, StudyError
from autoprune.search.sections import Workers
from autoprune.search.workers.private_ray import PrivateRay, ray_token

_OBJECT_STORE_BYTES = 128 * 1024**2
_ANSWER_S = 5.0
_CLIENT = "ray://"


def named_cluster() -> str | None:
    """The cluster that studies run on; None = each starts a Ray of its own."""
    return os.environ.get("RAY_ADDRESS") or None


def join_ray(workers: Workers) -> Callable[[], None] | None:
    """Connects to Ray, starting one where no cluster is named.

    Returns:
        What ends that; None if this process was connected before.

    Raises:
        StudyError: ``RAY_ADDRESS`` is no address that a driver can use.
        ClusterBusyError: the cluster does not answer, or does not let this process in.
        ClusterError: a Ray of its own does not start.
    """
    if ray.is_initialized():
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _keeping_sigterm():
        if (address := named_cluster()) is not None:
            _join(address, quiet)
            return ray.shutdown
        return PrivateRay(
            num_cpus=workers.count * workers.cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        ).close


def _join(address: str, options: dict[str, Any]) -> None:
    if address.startswith(_CLIENT):
        raise StudyError(
            "is an address for Ray's client; a driver has to run on a node of the cluster",
            field="RAY_ADDRESS",
            value=address,
            remedy="start a node here (ray start --address=HEAD:6379 --num-cpus=0) and name HEAD:6379",
        )
    _check_answers(address)
    with suppress(OSError):  # there is none, or it is somebody else's
        ray_token().chmod(0o600)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises bare ones, such as that it found no node on this machine
        raise ClusterBusyError(
            f"cannot join the Ray cluster at {address}: {' '.join(str(error).split())[:300]}",
            remedy="this machine has to be a node of it, with the same Ray, and with the cluster's token "
            "(RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)",
        ) from error


def _check_answers(address: str) -> None:
    """Looks whether anybody listens: Ray itself asks for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        return  # "auto", which Ray looks up on this machine
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ClusterBusyError(
            f"the Ray cluster at {address} does not answer: {error.strerror or error}",
            remedy="start its head, or correct RAY_ADDRESS",
        ) from error


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM for itself, to end with a dump of its stacks; afterwards it is handled as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
