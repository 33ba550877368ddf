"""Modules to files: torch.export programs and ONNX graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import opset18 as op
from torch import nn
from torch.export import Dim, ExportedProgram

from autoprune.engines.export.weights import SharedWeights


def exported(module: nn.Module, args: tuple[Any, ...], dynamic: Any = None) -> ExportedProgram:
    """A module as a torch.export program.

    Args:
        module: The module, in eval mode.
        args: An example of its arguments.
        dynamic: Axes whose length is known when the graph runs only, as ``torch.export`` takes them.
    """
    with torch.no_grad(), _quiet():
        # Guards on lengths that hold for all of them, but that the exporter cannot prove, become checks of the program.
        return torch.export.export(
            module.eval(),
            args,
            dynamic_shapes=dynamic,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def growing(name: str, axis: int, shortest: int, longest: int) -> dict[int, Any]:
    """An axis whose length is known when a graph runs only."""
    return {axis: Dim(name, min=shortest, max=longest)}


def write_onnx(
    program: ExportedProgram, file: Path, inputs: Sequence[str], outputs: Sequence[str], weights: SharedWeights
) -> None:
    """Write a program as an ONNX graph.

    Args:
        program: The program.
        file: Of the graph.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        weights: Take its tensors; in the same folder.
    """
    with torch.no_grad(), _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            verbose=False,
        )
    assert made is not None  # it is written by ourselves
    ClearMetadataAndDocStringPass()(made.model)  # it names the folders of this machine
    weights.take(made.model)
    onnx_ir.save(made.model, file)


def _stable_sort(scores: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """A stable sort in ONNX: of equal elements TopK puts the one with the lower index first, by its definition."""
    length = op.Shape(scores, start=dim, end=None if dim == -1 else dim + 1)
    return op.TopK(scores, length, axis=dim, largest=int(descending), sorted=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own notes, which are about their insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
