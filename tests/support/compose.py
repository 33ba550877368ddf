"""docker-compose.yml as compose reads it: anchors merged, variables substituted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services by name.

    Args:
        variables: Those of `.env`.

    Raises:
        KeyError: one that has to be set is not.
    """

    def value(found: re.Match[str]) -> str:
        name, kind, other = found.groups()
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return other
        raise KeyError(f"{name}: {other}")

    content = yaml.safe_load(_VARIABLE.sub(value, _without_comments(COMPOSE.read_text())).replace("$$", "$"))
    known: dict[str, Any] = content["services"]
    return known


def _without_comments(text: str) -> str:
    return re.sub(r"(^|\s)#[^\n]*", r"\1", text)
