"""The extra `vision`: torchvision, which must be the build made for the installed torch, and num2words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from autoprune.errors import AutopruneError

_PACKAGES = ("torchvision", "num2words")
_ABOVE = Path(__file__).parents[2]
_SOURCES = _ABOVE if (_ABOVE / "pyproject.toml").is_file() else None
"""Folder of the sources that this package runs from; None where it was copied out of them."""


def remedy(error: BaseException) -> str | None:
    """What to install, if an error asks for a package of this extra or comes from it; None for other errors.

    torchvision 0.(n + 15) goes with torch 2.n, and one built for CUDA cannot be imported beside a torch that is not.
    """
    if not any(package in str(one).lower() for one in _causes(error) for package in _PACKAGES):
        return None
    advice = install("vision")
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return advice
    numbers = torch.split("+")[0].split(".")
    release = f"0.{int(numbers[1]) + 15}" if numbers[0] == "2" and numbers[1].isdigit() else "the release"
    return f"{advice}, with torchvision {release} from where torch {torch} came from: the two must be built alike"


def install(extra: str) -> str:
    """The command that installs an extra of this package, from where the package itself came from.

    That is the folder of its sources, if it runs from there; else what pip noted of an archive or a repository that it
    installed from (PEP 610); else an index.
    """
    if _SOURCES is not None:
        return f"pip install {shlex.quote(f'{_SOURCES}[{extra}]')}"
    origin = json.loads(distribution("autoprune").read_text("direct_url.json") or "{}").get("url", "")
    if origin.startswith("file:"):
        return f"pip install {shlex.quote(f'{url2pathname(urlsplit(origin).path)}[{extra}]')}"
    return f"pip install {shlex.quote(f'autoprune[{extra}] @ {origin}' if origin else f'autoprune[{extra}]')}"


def import_failure(error: ModuleNotFoundError, extra: str) -> AutopruneError:
    """The error of a package that is missing, or that is there and cannot be imported.

    transformers names no package when one of its own modules cannot be imported; the cause says why.

    Args:
        error: What the import raised.
        extra: The extra of this package that installs what is missing.
    """
    if error.name is not None:
        return AutopruneError(f"needs the package {error.name}", remedy=install(extra))
    first = " ".join(str(list(_causes(error))[-1]).split())[:300]
    return AutopruneError(
        f"transformers cannot be imported: {first}",
        remedy=remedy(error) or "see the traceback with --debug, and install the package that it names again",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
