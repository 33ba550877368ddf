"""The options and arguments that several commands share, each defined once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import typer

from autoprune.cli.groups import Group, settings
from autoprune.data.options import DataOptions
from autoprune.models.options import DTYPES, ModelOptions

_MODEL, _ROWS = "Model", "Rows"
_DEVICES = "auto, balanced or sequential: spread over the devices (accelerate); default: all on one."


def output(what: str) -> Any:
    """``--output`` of a command that writes one file, with what the file holds."""
    return typer.Option("-o", "--output", metavar="FILE", help=what)


def _model(name: str, what: str, **more: Any) -> Any:
    return typer.Option(name, help=what, rich_help_panel=_MODEL, **more)


def _rows(name: str, what: str, **more: Any) -> Any:
    return typer.Option(name, help=what, rich_help_panel=_ROWS, **more)


def _model_options(processor: list[str] | None, generation: list[str] | None, **given: Any) -> ModelOptions:
    given |= {"processor": settings("--processor", processor), "generation": settings("--generation", generation)}
    return ModelOptions.of(**given)


def _data_options(columns: list[str] | None, **given: Any) -> DataOptions:
    return DataOptions(columns={ours: str(theirs) for ours, theirs in settings("--columns", columns).items()}, **given)


_LOADING = Group(
    {
        "dtype": (Annotated[DTYPES, _model("--dtype", "Number type: " + ", ".join(get_args(DTYPES)) + ".")], "auto"),
        "device": (Annotated[str, _model("--device", "Device: auto, cpu, mps, cuda or cuda:<number>.")], "auto"),
        "device_map": (Annotated[str | None, _model("--device-map", _DEVICES, metavar="MAP")], None),
        "attn_implementation": (
            Annotated[
                str | None,
                _model("--attn-implementation", "Attention kernel, as sdpa; default: the model's.", metavar="NAME"),
            ],
            None,
        ),
        "revision": (
            Annotated[str | None, _model("--revision", "Branch, tag or commit; default: main.", metavar="REF")],
            None,
        ),
        "trust_remote_code": (
            Annotated[bool, _model("--trust-remote-code", "Run code that the checkpoint brings.")],
            False,
        ),
        "processor": (
            Annotated[
                list[str] | None,
                _model("--processor", "Setting of the processor, as max_pixels=200704; repeatable.", metavar="K=V"),
            ],
            None,
        ),
        "generation": (
            Annotated[
                list[str] | None,
                _model(
                    "--generation",
                    "Setting of generation_config.json, as repetition_penalty=1.0; repeatable.",
                    metavar="K=V",
                ),
            ],
            None,
        ),
    },
    _model_options,
)
_READING = Group(
    {
        "split": (Annotated[str, _rows("--split", "Split of a data set on the hub.")], "train"),
        "config": (
            Annotated[str | None, _rows("--data-config", "Its configuration; default: its only one.", metavar="NAME")],
            None,
        ),
        "columns": (
            Annotated[
                list[str] | None,
                _rows("--columns", "Column of a field, as prompt=question; may be repeated.", metavar="OURS=THEIRS"),
            ],
            None,
        ),
        "samples": (Annotated[int | None, _rows("--samples", "Rows to draw at random; default: all.", min=1)], None),
        "seed": (Annotated[int, _rows("--seed", "Of the draw.")], 0),
    },
    _data_options,
)
_AT_LEAST_TWO = Annotated[int | None, _rows("--samples", "Rows to draw at random; default: all.", min=2)]

Loading = Annotated[ModelOptions, _LOADING]
"""How the model is loaded."""
Reading = Annotated[DataOptions, _READING]
"""How the rows of ``--data`` are read."""
ReadingForIntervals = Annotated[DataOptions, _READING.having(samples=(_AT_LEAST_TWO, None))]
ReadingAtMost = Annotated[DataOptions, _READING.without("samples")]
"""Without ``--samples``, for a command that has a bound of its own."""

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a model, or its name on the hub.")]
ModelOrConfig = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder or hub name of a model; with --random-init a config.json too.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a study.")]
ScheduleFile = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Schedule file (JSON).")]

BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rows in a batch.")]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
Engine = Annotated[
    Literal["transformers", "vllm"],
    typer.Option("--engine", help="What runs the schedule: transformers, or vllm (your own, with autoprune in it)."),
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option("--engine-option", help="Argument of vllm.LLM, as max_model_len=8192; repeatable.", metavar="K=V"),
]
Data = Annotated[
    str, typer.Option("--data", metavar="D", help="Rows: a JSONL or Parquet file, or the name of a data set.")
]
DataForPrompts = Annotated[
    str | None, typer.Option("--data", metavar="D", help="Take prompts from this data set, not made-up ones.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Plot = Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Picture of the curves to write (.png).")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Write results and errors only.")]
RandomInit = Annotated[bool, typer.Option("--random-init", help="Random weights; MODEL may be a config.json alone.")]
