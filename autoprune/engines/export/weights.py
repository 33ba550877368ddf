"""The weights of several ONNX graphs in one file, every tensor once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx_ir

_INLINE_BYTES = 1024
"""Tensors up to this size stay in their graph."""
_PAGE = 4096
"""Offsets are multiples of it, so that ONNX Runtime can map the file into memory."""


class SharedWeights:
    """A file of tensors that graphs in the same folder refer to; prefill and decode have nearly all of them in common.

    Args:
        file: The file; made when the first tensor comes.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._known = file, dict[str, tuple[int, int]]()

    def take(self, model: onnx_ir.Model) -> None:
        """Move the larger tensors of a graph into the file, and leave references to it."""
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes > _INLINE_BYTES:
                value.const_value = self._moved(tensor)

    def _moved(self, tensor: Any) -> onnx_ir.ExternalTensor:
        content = tensor.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._known:
            self._known[digest] = (self._append(content), len(content))
        offset, length = self._known[digest]
        return onnx_ir.ExternalTensor(
            self._file.name, offset, length, tensor.dtype, shape=tensor.shape, name=tensor.name,
            base_dir=str(self._file.parent),
        )  # fmt: skip

    def _append(self, content: bytes) -> int:
        with self._file.open("ab") as stream:
            stream.write(b"\0" * (-stream.tell() % _PAGE))
            offset = stream.tell()
            stream.write(content)
        return offset
