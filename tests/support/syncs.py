"""Counting what a pass asks of the device: operators, and the values read back to the host, which make a GPU wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS = {"item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "equal", "allclose", "unique", "bincount"}
_CASTS = {"__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__"}
_INDEXING = {"__getitem__", "__setitem__", "index_put_"}
_OPERATORS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select"}


class _Calls(TorchFunctionMode):
    """What Python code asks of tensors."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        by_mask = name in _INDEXING and any(_is_mask(part) for part in _parts(args[1]))
        one_sided_where = name == "where" and len(args) == 1
        if name in _READS | _CASTS or by_mask or one_sided_where:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    """What ends in an operator that reads a value, from wherever it was asked for."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if name in _OPERATORS:
            self._found[name] += 1
        return func(*args, **(kwargs or {}))


class Operators(Counter[str]):
    """How often each operator ran, and the most numbers that one of them made."""

    largest = 0


class _Everything(TorchDispatchMode):
    def __init__(self, found: Operators) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._found[func.name().split(".")[0]] += 1
        made = [t for t in _parts(result) if isinstance(t, torch.Tensor)]
        self._found.largest = max([self._found.largest, *(t.numel() for t in made)])
        return result


def _parts(index: Any) -> tuple[Any, ...]:
    return tuple(index) if isinstance(index, tuple | list) else (index,)


def _is_mask(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.dtype == torch.bool


@contextmanager
def counted_syncs() -> Iterator[Counter[str]]:
    """The operations inside the block that need a value, or a size that depends on values, on the host."""
    found: Counter[str] = Counter()
    with _Calls(found), _Operators(found):
        yield found


@contextmanager
def counted_operators() -> Iterator[Operators]:
    """The operators that run inside the block."""
    found = Operators()
    with _Everything(found):
        yield found
