"""A study file as plain values: YAML in which every key stands once, of a size that a person writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autoprune.errors import StudyError
from autoprune.schedule.files import read_text

MOST_VALUES = 10_000
"""Values of a study file, those behind an alias counted wherever it stands."""
MOST_BYTES = 1_000_000


def read_study(file: Path) -> dict[str, Any]:
    """Keys and values of a study file.

    Raises:
        StudyError: it cannot be read, is no YAML of keys and values, names a key twice, or is too large.
    """
    try:
        text = read_text(file, MOST_BYTES)
    except ValueError as error:
        raise _refused(str(error), str(file), "give the path of a study file") from None
    try:
        raw = _load(text)
    except yaml.YAMLError as error:
        raise _refused(f"is not YAML: {' '.join(str(error).split())}", str(file), "correct its syntax") from None
    except RecursionError:
        raise _refused("is nested too deeply", str(file), "write it flat") from None
    if not isinstance(raw, dict):
        raise _refused("must hold keys and values", type(raw).__name__, "start with `name: …`")
    return raw


def _load(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _values(root, {}) > MOST_VALUES:
            raise _refused(f"stands for more than {MOST_VALUES:,} values", None, "write out what its aliases repeat")
        try:
            return loader.construct_document(root)
        except ValueError as error:  # a date that there is not, a number of thousands of digits
            raise _refused(f"holds a value that cannot be read: {error}", None, "correct or quote it") from None
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that a node stands for; checks that no mapping below it names a key twice."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES  # until it is counted: a node inside of itself has no end
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = list(node.value)
    known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            line = key.start_mark.line + 1
            raise _refused(f"names a key twice, again in line {line}", key.value, "keep one of them")
        if isinstance(key, yaml.ScalarNode):
            seen.add(key.value)


def _refused(message: str, value: str | None, remedy: str) -> StudyError:
    return StudyError(message, field="study", value=value, remedy=remedy)
