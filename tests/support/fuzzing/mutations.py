"""Ways to spoil an input: values of another kind, keys that are missing or doubled, bytes that are no text."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = 3_000
_STRANGE: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None,
    lambda _: True,
    lambda r: r.choice([-1, 0, 1, 2**31, -(2**63), 10**18, 10**400]),
    lambda r: r.choice([0.5, -0.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]),
    lambda r: r.choice(["", " ", "x", "0.5", "null", "NaN", "last", "../../etc/passwd", "/dev/zero", "~", "%s{0}"]),
    lambda _: "long " * 20_000,
    lambda r: r.choice(
        ["\x00", "\x1b[31mred\x1b[0m", "\u202egnp", "[bold]x[/]", "=cmd()", "\ud800", "\n\n", "<script>"]
    ),
    lambda _: [],
    lambda _: {},
    lambda _: [1, "two", None, {"three": [3]}],
    lambda _: {"": 0, "name": "x", "\x07": None},
    lambda _: _nested(60),
    lambda _: list(range(20_000)),
)


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def spoil_tree(tree: Any, rng: random.Random) -> tuple[Any, str]:
    """A copy of plain values with one place changed, and what was changed."""
    spoilt = copy.deepcopy(tree)
    parent, key, path = rng.choice(_places(spoilt, ""))
    how = rng.choice(["replace"] * 6 + ["delete", "rename", "add", "wrap"])
    if how == "replace":
        parent[key] = rng.choice(_STRANGE)(rng)
    elif how == "delete":
        del parent[key]
    elif how == "wrap":
        parent[key] = [parent[key]]
    elif isinstance(parent, dict):
        parent[f"{key}_" if how == "rename" else "unknown"] = parent.pop(key) if how == "rename" else 1
    else:
        parent.append(parent[key])
    return spoilt, f"{how} {path}"


def _places(tree: Any, path: str) -> list[tuple[Any, Any, str]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = []
    for key, value in items:
        here = f"{path}/{key}"
        found += [(tree, key, here), *_places(value, here)]
    return found


def spoil_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes that are damaged as a whole, and how."""
    how = rng.choice(sorted(_BYTES))
    return _BYTES[how](data, rng), how


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _with_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    return b"\n".join([*lines[: place + 1], *lines[place:]])


_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, rng: b"",
    "truncated": lambda data, rng: data[: rng.randrange(len(data))],
    "random": lambda data, rng: rng.randbytes(rng.choice([1, 100, 5_000])),
    "flipped": _flipped,
    "zeros": lambda data, rng: b"\0" * len(data),
    "utf-16": lambda data, rng: data.decode("latin-1").encode("utf-16"),
    "byte order mark": lambda data, rng: b"\xef\xbb\xbf" + data,
    "latin-1": lambda data, rng: data[: len(data) // 2] + "ü".encode("latin-1") + data[len(data) // 2 :],
    "line doubled": _with_line,
    "deep list": lambda data, rng: b"[" * DEEP + b"]" * DEEP,
    "deep object": lambda data, rng: b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "long number": lambda data, rng: b'{"stages": ' + b"9" * 10_000 + b"}",
    "doubled": lambda data, rng: data + data,
    "blank": lambda data, rng: b" \n\t\n",
    "windows ends": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "nul in the middle": lambda data, rng: data[: len(data) // 2] + b"\0" + data[len(data) // 2 :],
}


def spoil_path(file: Path, rng: random.Random) -> str:
    """Puts something that is no file in the place of a file; says what."""
    file.unlink()
    how = rng.choice(["folder", "missing", "link to itself", "device"])
    if how == "folder":
        file.mkdir()
    elif how == "link to itself":
        file.symlink_to(file)
    elif how == "device":
        file.symlink_to("/dev/null")
    return how


def as_json(tree: Any) -> str:
    """JSON of plain values, NaN and lone surrogates included."""
    return json.dumps(tree)
