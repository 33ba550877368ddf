"""What prepared batches hold in memory, kept within one budget; what falls out is computed again when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from torch import Tensor


class Holder(Protocol):
    """Something that holds tensors which can be computed again."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds now."""


HolderT = TypeVar("HolderT", bound=Holder)


class BatchMemory(Generic[HolderT]):
    """Keeps the batches of a data set within one budget, however many there are.

    Whoever goes through all rows, again and again, needs the batch that it just used last of all: so what was used last
    is dropped first, and the first rows, which a race asks for most often, stay.

    Args:
        most_bytes: Budget. The batch in use is never dropped, whatever it holds.
        drops: Ways to drop something of a batch, the one that is cheapest to make good first.
    """

    def __init__(self, most_bytes: int, drops: Sequence[Callable[[HolderT], None]]) -> None:
        self._most_bytes, self._drops = most_bytes, drops
        # Used last comes last; a batch that nobody else knows any more holds nothing.
        self._held: WeakValueDictionary[int, HolderT] = WeakValueDictionary()
        self._nbytes: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all batches that hold something."""
        return sum(self._nbytes[key] for key in self._held)

    def add(self, batch: HolderT) -> None:
        """Takes note of what a batch holds."""
        self._held.pop(id(batch), None)
        self._note(batch)

    def keep(self, batch: HolderT) -> None:
        """Takes note of a batch in use, and drops as much of the others as is over the budget."""
        self.add(batch)
        for drop in self._drops:
            for other in list(self._held.values())[-2::-1]:
                if self.nbytes <= self._most_bytes:
                    return
                drop(other)
                self._note(other)

    def _note(self, batch: HolderT) -> None:
        self._held[id(batch)] = batch
        self._nbytes[id(batch)] = batch.nbytes


def tensor_bytes(*values: Any) -> int:
    """Bytes of all memory behind the tensors in nested mappings and sequences; what several share counts once."""
    return sum({storage.data_ptr(): storage.nbytes() for storage in _storages(values)}.values())


def _storages(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [value.untyped_storage()]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [storage for part in parts for storage in _storages(part)]
