"""``autoprune bench``: how much time and memory a schedule really saves, and where the rest goes."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Json, Model
from autoprune.cli.output import emit, stderr

_SOME = "; may be given several times"


def bench(
    model: Model,
    schedules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCHEDULE]...", help="Schedule files and preset names; default: the published methods."
        ),
    ] = None,
    batch_size: Annotated[list[int] | None, typer.Option("--batch-size", min=1, help=f"Default 1{_SOME}.")] = None,
    visual_tokens: Annotated[
        list[int] | None, typer.Option("--visual-tokens", min=1, help=f"Of one prompt; default 576{_SOME}.")
    ] = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", min=1, help="Of one prompt.")] = 64,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, help="To generate; 1 = no decode steps.")] = 16,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed rounds.")] = 5,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Rounds before them.")] = 1,
    random_init: Annotated[
        bool, typer.Option("--random-init", help="Random weights; MODEL may be a config.json alone.")
    ] = False,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Only the first decoder layers, with --random-init.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:<number>.")] = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time dense and pruned runs side by side: prefill, decode, memory, KV cache, and what pruning itself costs."""
    if layers is not None and not random_init:
        raise InputError("needs --random-init", field="--layers", value=layers, remedy="add --random-init")
    from autoprune.bench import BenchPlan, benchmark, choose_schedules
    from autoprune.cli.bench_table import show
    from autoprune.cli.models import open_model
    from autoprune.models.random_init import random_model, read_config
    from autoprune.schedule import Schedule

    config = read_config(model, layers)
    depth = config.get_text_config(decoder=True).num_hidden_layers
    plan = BenchPlan(
        choose_schedules(schedules or [], depth),
        batch_size or [1],
        visual_tokens or [576],
        text_tokens,
        new_tokens,
        repeats,
        warmup,
    )
    plan.check(config)
    with stderr().status("loading the model") as status:
        built = (
            random_model(config, dtype=dtype, device=device)
            if random_init
            else open_model(model, Schedule(), dtype, device).model
        )
        found = benchmark(built, plan, status.update)
    described = {
        "model": model,
        "random_init": random_init,
        "layers": depth,
        "dtype": str(built.dtype).removeprefix("torch."),
        "device": str(built.device),
        "attention": built.get_decoder().config._attn_implementation,
        "repeats": repeats,
        "warmup": warmup,
    }
    if as_json:
        emit({**described, **found.to_dict()})
    else:
        show(described, found)
