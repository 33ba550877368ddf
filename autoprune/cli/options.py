"""The options and arguments that several commands share, each defined once."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def output(what: str) -> Any:
    """``--output`` of a command that writes one file, with what the file holds."""
    return typer.Option("-o", "--output", metavar="FILE", help=what)


def samples(least: int) -> Any:
    """``--samples`` of a command that needs at least so many rows."""
    return typer.Option("--samples", min=least, help="Rows to draw at random; default: all.")


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a model, or its name on the hub.")]
ModelOrConfig = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder or hub name of a model; with --random-init a config.json too.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a study.")]
ScheduleFile = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Schedule file (JSON).")]

BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rows in a batch.")]
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
RandomInit = Annotated[bool, typer.Option("--random-init", help="Random weights; MODEL may be a config.json alone.")]
Samples = Annotated[int | None, samples(1)]
SamplesForIntervals = Annotated[int | None, samples(2)]
