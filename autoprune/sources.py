"""Where models, data sets and schedules come from: a path on this machine, or a name on the hub."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoprune.errors import AutopruneError

NOT_ASKED = "check the path; the hub is not asked for a name whose first part is a folder here"
"""Remedy for a path at which nothing is, by `is_path`."""
ANSWER_S = 4.0
"""Seconds in which the hub must answer; after that, what it gave before is looked for in the local cache."""
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_COMMIT = re.compile("[0-9a-f]{40}")
_FILES = (".json", ".jsonl", ".parquet", ".safetensors", ".yaml", ".yml")


class HubError(AutopruneError, RuntimeError):
    """The hub does not answer, or does not do what was asked of it."""


class RepositoryError(AutopruneError, ValueError):
    """There is no such repository on the hub, or no such revision or file in it."""


def is_path(given: str, base: Path | None = None) -> bool:
    """Whether a text can only be meant as a path, so that the hub is not asked for it.

    Args:
        given: Path or name.
        base: Folder at which relative paths start; None = the working folder.
    """
    if "://" in given:
        return False
    first, slash, rest = given.partition("/")
    if given.startswith((".", "/", "~")) or "/" in rest or Path(given).suffix.lower() in _FILES:
        return True
    return bool(slash) and os.path.exists((base or Path()) / first)  # unlike Path's, False for what can be no path


@contextmanager
def hub_or_cache(given: str | Path) -> Iterator[None]:
    """A block in which libraries ask the hub if it answers, and otherwise take what is in the local cache.

    Without it they try again for half a minute where there is no network.

    Args:
        given: What they will look for; nobody is asked for a path that exists.
    """
    from huggingface_hub import constants

    if os.path.exists(given):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers() -> bool:
    from huggingface_hub import constants, get_session

    heard = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
        except Exception:  # noqa: BLE001 - each HTTP library that the hub's client may use has classes of its own
            return
        heard.set()

    asking = threading.Thread(target=ask, daemon=True)  # a name server that is silent is not bounded by the timeout
    asking.start()
    asking.join(ANSWER_S)
    return heard.is_set()


def hub_file(repo: str, name: str, revision: str | None = None) -> Path:
    """A file of a repository on the hub; the hub is not asked for what the local cache knows of a commit.

    Args:
        repo: Name of the repository.
        name: Name of the file in it.
        revision: Branch, tag or commit; None = main.

    Raises:
        RepositoryError: there is no such repository, revision or file.
        HubError: the hub does not answer, and the file is not in the local cache.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache

    with hub_told(repo, name):
        known = try_to_load_from_cache(repo, name, revision=revision) if _COMMIT.fullmatch(revision or "") else None
        if isinstance(known, str):
            return Path(known)
        if known is _CACHED_NO_EXIST:
            raise _not_in(repo, name)
        with hub_or_cache(repo):
            return Path(hf_hub_download(repo, name, revision=revision))


def cached_commit(repo: str, revision: str | None = None) -> str | None:
    """The commit whose files the local cache holds for a revision of a model on the hub; nobody is asked.

    Args:
        repo: Name of the repository.
        revision: Branch, tag or commit; None = main.

    Returns:
        The commit; None for what is no name, and where the cache does not hold the config of that revision.
    """
    from huggingface_hub import errors, try_to_load_from_cache

    if os.path.isdir(repo) or is_path(repo):
        return None
    try:
        found = try_to_load_from_cache(repo, "config.json", revision=revision)
    except errors.HFValidationError:
        return None
    return Path(found).parent.name if isinstance(found, str) else None


@contextmanager
def hub_told(repo: str, what: str) -> Iterator[None]:
    """A block in which errors of the hub's client become ours: short, and without anything that a request held.

    Args:
        repo: Name of the repository.
        what: The file that is asked for.

    Raises:
        RepositoryError: there is no such repository, revision or file.
        HubError: the hub does not answer, or refuses.
    """
    from huggingface_hub import errors

    at: dict[str, Any] = {"field": "repository", "value": repo}
    try:
        yield
    except errors.RevisionNotFoundError:
        raise RepositoryError("has no such revision on the hub", **at, remedy="check it") from None
    except errors.RepositoryNotFoundError:
        remedy = f"check the name; for a private or gated one, {_LOG_IN}"
        raise RepositoryError("there is none on the hub, or no access to it", **at, remedy=remedy) from None
    except errors.RemoteEntryNotFoundError:
        raise _not_in(repo, what) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        remedy = "check the network and HF_HUB_OFFLINE, or give a folder"
        said = f"the hub is not reached, and {what} is not in the local cache"
        raise HubError(said, **at, remedy=remedy) from None
    except errors.HFValidationError:
        raise RepositoryError("is no name of a repository", **at, remedy="write owner/name") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedy = f"{_LOG_IN}; the token must be allowed to do this" if status in (401, 403) else "try again later"
        if status == 400:
            remedy = error.server_message or "look at what is sent"
        raise HubError(f"the hub refuses: HTTP status {status}", **at, remedy=remedy) from None
    except errors.HTTPError as error:  # type: ignore[attr-defined] # of the HTTP library that the client uses
        said = f"the hub is not reached: {type(error).__name__}"
        raise HubError(said, **at, remedy="check the network") from None


def _not_in(repo: str, name: str) -> RepositoryError:
    return RepositoryError(
        f"does not hold {name}", field="repository", value=repo, remedy="check the name and revision"
    )
