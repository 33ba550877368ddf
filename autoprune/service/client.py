"""A client of the service: submits studies, watches them, and brings their schedules."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2 as httpx

from autoprune.errors import AutopruneError
from autoprune.schedule import Schedule
from autoprune.search.study_file import read_study
from autoprune.service.settings import STUDY_KEYS

DEFAULT_SERVER: Final = "http://127.0.0.1:8321"
TOKEN_VARIABLE: Final = "AUTOPRUNE_TOKEN"
_AGAIN: Final = frozenset({429, 502, 503, 504})
_INPUT: Final = frozenset({400, 404, 409, 422})
_TRIES: Final = 5
_LONGEST_WAIT_S: Final = 30.0
_LONGEST_AWAY_S: Final = 300.0  # of a study that is watched: a service may be upgraded meanwhile


class RemoteError(AutopruneError, RuntimeError):
    """The service refused, failed, or cannot be reached.

    Args:
        status: HTTP status; None where no reply came.
        retry_after_s: Seconds after which the service wants to be asked again, if it says so.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after_s: float | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.status, self.retry_after_s = status, retry_after_s


class RemoteInputError(RemoteError, ValueError):
    """What was asked for is wrong: the service's address, a study, an id, or a value that it refuses."""


@dataclass(frozen=True)
class RemoteEvent:
    """An event of a study.

    Attributes:
        id: Its place; `Client.watch` goes on behind it.
        kind: As of `Event`; ``end`` closes the study.
        content: `Event` as JSON values; of ``end``: state and reason.
    """

    id: int
    kind: str
    content: dict[str, Any]


class Client:
    """A connection to a service; a context manager.

    What can be asked twice without harm is asked again where the service is away or busy for a moment.

    Args:
        server: Its URL, with ``/v1`` or without; None = ``AUTOPRUNE_SERVER``, or the address that `autoprune serve` has
            by default.
        token: Who calls; None = ``AUTOPRUNE_TOKEN``, or nobody.
        timeout_s: Seconds that a reply may take.

    Raises:
        RemoteInputError: the server is no URL, or the token can be none.
    """

    def __init__(self, server: str | None = None, token: str | None = None, timeout_s: float = 30.0) -> None:
        given = (server or os.environ.get("AUTOPRUNE_SERVER") or DEFAULT_SERVER).rstrip("/")
        self.server = given.removesuffix("/v1").rstrip("/")
        token = (token or os.environ.get(TOKEN_VARIABLE, "")).strip()
        if not _is_server(self.server):
            remedy = f"give one such as {DEFAULT_SERVER}"
            raise RemoteInputError("is no URL of a service", field="server", value=self.server, remedy=remedy)
        if not re.fullmatch("[!-~]*", token):  # a header holds nothing else; the value may be half of a secret
            remedy = "give what `autoprune token create` printed"
            raise RemoteInputError("can be no token", field=TOKEN_VARIABLE, remedy=remedy)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.server, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    def submit(self, study: str | os.PathLike[str] | Mapping[str, Any], key: str | None = None) -> str:
        """Queues a study.

        Args:
            study: A study file, whose `STUDY_KEYS` are left out, or its content; paths in it are those of the
                service's machines.
            key: Idempotency key: the same key and study are the same job. None = a new one.

        Returns:
            The id of the study.

        Raises:
            StudyError: the file is no study file.
            RemoteError: the service refuses it.
        """
        if isinstance(study, Mapping):
            content = dict(study)
        else:
            content = {key: value for key, value in read_study(Path(study)).items() if key not in STUDY_KEYS}
        reply = self._ask("POST", "/v1/studies", json=content, headers={"Idempotency-Key": key or uuid.uuid4().hex})
        return str(reply.json()["id"])

    def studies(self, state: str | None = None) -> Iterator[dict[str, Any]]:
        """All studies, the newest first; only those in a state, if one is given."""
        after: str | None = None
        while True:
            wanted = {"state": state, "after": after}
            page = self._ask("GET", "/v1/studies", params={k: v for k, v in wanted.items() if v is not None}).json()
            yield from page["studies"]
            if (after := page["next"]) is None:
                return

    def study(self, id: str) -> dict[str, Any]:
        """A study as it stands."""
        return self._json("GET", f"/v1/studies/{id}")

    def cancel(self, id: str) -> dict[str, Any]:
        """Ends a study; what was found is kept."""
        return self._json("POST", f"/v1/studies/{id}/cancel")

    def resume(self, id: str) -> dict[str, Any]:
        """Queues a study again that failed or was cancelled."""
        return self._json("POST", f"/v1/studies/{id}/resume")

    def delete(self, id: str) -> None:
        """Removes a study that has ended, with its files."""
        self._ask("DELETE", f"/v1/studies/{id}")

    def watch(self, id: str, after: int = 0) -> Iterator[RemoteEvent]:
        """Events of a study as they come, until it has ended; goes on where a connection broke or the service is away.

        Args:
            id: The study.
            after: Id of the last event that is known already.

        Raises:
            RemoteError: there is no such study, or the service stays away for minutes.
        """
        failures, away_since = 0, math.inf
        while True:
            headers, problem = {"Last-Event-ID": str(after)}, None
            try:
                with self._http.sse(f"/v1/studies/{id}/events", headers=headers) as source:
                    _refused(source.response)
                    failures, away_since = 0, math.inf
                    for event in source:
                        after = int(event.id or after)
                        content = event.json()
                        assert isinstance(content, dict), "an event is a JSON object"
                        yield RemoteEvent(after, event.event, content)
                        if event.event == "end":
                            return
            except httpx.TransportError as error:
                problem = self._away(error)
            except RemoteError as error:
                if error.status not in _AGAIN:
                    raise
                problem = error
            wait = 2.0**failures / 2
            if problem is not None:
                failures, away_since = failures + 1, min(away_since, time.monotonic())
                if time.monotonic() - away_since >= _LONGEST_AWAY_S:
                    raise problem
                wait = max(wait, problem.retry_after_s or 0)
            time.sleep(min(wait, _LONGEST_WAIT_S))

    def front(self, id: str) -> dict[str, Any]:
        """The front of a study (front.json)."""
        return self._json("GET", f"/v1/studies/{id}/front")

    def report(self, id: str) -> bytes:
        """The report page of a study, HTML."""
        return self._ask("GET", f"/v1/studies/{id}/report").content

    def point(self, id: str, **wish: float | None) -> dict[str, Any]:
        """One point of a front: its trial and name, its cost and loss, its schedule, and the codebooks beside that.

        Args:
            id: The study.
            wish: One of `max_drop` (with `confidence`), `max_flops`, `max_latency_ms`, `max_kv`, `trial`.

        Raises:
            RemoteError: no point qualifies; it names the nearest.
        """
        given = {name: value for name, value in wish.items() if value is not None}
        found: dict[str, Any] = self._ask("GET", f"/v1/studies/{id}/schedule", params=given).json()
        return found

    def schedule(self, id: str, **wish: float | None) -> Schedule:
        """One point of a front as a schedule; takes what `point` takes."""
        return Schedule.model_validate(self.point(id, **wish)["schedule"])

    def codebook(self, id: str, sha256: str) -> bytes:
        """A codebook that a schedule of a study needs beside it (safetensors), by its digest.

        Raises:
            RemoteError: no schedule of the study has it, or what came is another file.
        """
        content = self._ask("GET", f"/v1/studies/{id}/codebooks/{sha256}").content
        if hashlib.sha256(content).hexdigest() != sha256:
            raise RemoteError("what came is another file", field="sha256", value=sha256, remedy="ask again")
        return content

    def publish(self, name: str, study: str, **wish: float | None) -> int:
        """Publishes one point of a front in the registry.

        Args:
            name: What it is published under.
            study: The study.
            wish: As of `schedule`.

        Returns:
            Its version; that of the same content, if it was published before.
        """
        content = {"study": study} | {key: value for key, value in wish.items() if value is not None}
        return int(self._ask("POST", f"/v1/schedules/{name}/versions", json=content).json()["version"])

    def published(self, name: str, version: int | str) -> Schedule:
        """A schedule of the registry, by its version or an alias such as ``champion``."""
        return Schedule.model_validate(self._json("GET", f"/v1/schedules/{name}/versions/{version}")["schedule"])

    def verify(self, schedule: Schedule, model: Mapping[str, Any], data: Mapping[str, Any], **more: int) -> str:
        """Queues the verification of a schedule on held-out rows.

        Args:
            schedule: The schedule.
            model: The model, as in a study file.
            data: The rows, as a data set of a study file.
            more: `batch_size`, `max_new_tokens`.

        Returns:
            The id of the verification.
        """
        content = {"schedule": schedule.to_json_dict(), "model": dict(model), "data": dict(data), **more}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return str(self._ask("POST", "/v1/verifications", json=content, headers=key).json()["id"])

    def verification(self, id: str) -> dict[str, Any]:
        """A verification as it stands, with what was found."""
        return self._json("GET", f"/v1/verifications/{id}")

    def _json(self, method: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(method, path).json()
        return found

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """A reply that is a success; what failed for a moment is asked again where that does no harm."""
        harmless = method == "GET" or "Idempotency-Key" in given.get("headers", {})
        for tried in range(1, _TRIES + 1):
            last = tried == _TRIES or not harmless
            wait = 2.0**tried / 4
            try:
                reply = self._http.request(method, path, **given)
            except httpx.TransportError as error:
                if last and not (tried < _TRIES and isinstance(error, httpx.ConnectError)):
                    raise self._away(error) from None
            else:
                if last or reply.status_code not in _AGAIN:
                    _refused(reply)
                    return reply
                asked = _retry_after(reply)
                wait = wait if asked is None else asked
            time.sleep(min(wait, _LONGEST_WAIT_S))
        raise AssertionError("the last try returns or raises")

    def _away(self, error: Exception) -> RemoteError:
        return RemoteError(
            f"cannot be reached: {str(error) or type(error).__name__}",
            field="server",
            value=self.server,
            remedy="check the URL, and that `autoprune serve` runs there",
        )


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _refused(reply: httpx.Response) -> None:
    """Raises what a reply that is no success says."""
    if reply.is_success:
        return
    reply.read()
    try:
        problem = reply.json()["error"]
        message = problem["message"]
    except (ValueError, KeyError, TypeError):  # not of our service: a proxy between, or something else on this port
        problem, message = {}, f"HTTP {reply.status_code} without a word of autoprune's"
    details = {name: problem.get(name) for name in ("field", "value", "remedy")}
    if reply.status_code == 401:  # the service names a header, which callers of a client do not write
        details["remedy"] = f"set {TOKEN_VARIABLE} to one that `autoprune token create` made; it may have expired"
    kind = RemoteInputError if reply.status_code in _INPUT else RemoteError
    raise kind(message, reply.status_code, _retry_after(reply), **details)


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds after which to ask again; None where the reply names none (or a date, as no part of the service does)."""
    value = reply.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
