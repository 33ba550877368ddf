"""``autoprune compile``: a model under a schedule as graphs that run without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import DataForPrompts, Debug, Force, Json, Loading, Model, Reading, ScheduleFile
from autoprune.cli.output import emit, stdout, table
from autoprune.cli.prologue import opened, rows_for_prompts

if TYPE_CHECKING:
    from autoprune.engines.export.folder import Compiled
    from autoprune.models.options import ModelOptions


def compile_(
    model: Model,
    schedule: ScheduleFile,
    loading: Loading,
    reading: Reading,
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder to write: new, or empty.")],
    data: DataForPrompts = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model under a schedule: torch.export and ONNX graphs, a script for ONNX Runtime, and a check."""
    from autoprune.engines.export.folder import compile_model
    from autoprune.engines.export.refusals import check_config, check_schedule
    from autoprune.engines.export.writing import fresh_folder
    from autoprune.models.config import read_config
    from autoprune.schedule import Schedule

    loaded_schedule = Schedule.load(schedule)
    check_schedule(loaded_schedule)
    loading = _on_cpu(loading)
    check_config(read_config(model, options=loading))
    sample = next(iter(rows_for_prompts(data, reading)), None)
    with (
        fresh_folder(Path(output).expanduser(), force) as folder,
        opened(model, loading, [] if sample is None else [sample], loaded_schedule) as job,
    ):
        result = compile_model(job.model, loaded_schedule, folder, sample, job.say)
    if as_json:
        emit({"output": output, **result.facts})
    else:
        _show(output, result)


def _on_cpu(loading: ModelOptions) -> ModelOptions:
    """The model in single precision on the CPU, which the graphs are compared with.

    Raises:
        InputError: something else is asked for.
    """
    for option, value, wanted in (("--dtype", loading.dtype, "float32"), ("--device", loading.device, "cpu")):
        if value not in ("auto", wanted):
            raise InputError(
                f"not available here: graphs are compiled in {wanted}", field=option, value=value, remedy="leave it out"
            )
    if loading.device_map is not None:
        raise InputError(
            "not available here: graphs are compiled in one place", field="--device-map", remedy="leave it out"
        )
    return loading.model_copy(update={"dtype": "float32", "device": "cpu"})


def _show(output: str, result: Compiled) -> None:
    facts, agreement = result.facts, result.agreement
    rows = table(f"compiled for {facts['visual_tokens']} visual tokens", "layer", "visual", "KV entries")
    for layer, (visual, entries) in enumerate(zip(facts["visual_tokens_of_layers"], agreement.kv_entries, strict=True)):
        rows.add_row(str(layer), str(visual), str(entries))
    console = stdout()
    console.print(rows)
    console.print(f"beside autoprune on transformers: {agreement}")
    console.print(f"written: {output}; run it: python {Path(output) / 'run.py'} QUESTION IMAGE")
