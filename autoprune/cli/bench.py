"""``autoprune bench``: time and memory of dense and pruned runs, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.engines import bench_in_vllm, check_engine
from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Engine, EngineOption, Json, Loading, ModelOrConfig, RandomInit
from autoprune.cli.output import emit, stderr
from autoprune.cli.prologue import open_model


def bench(
    model: ModelOrConfig,
    loading: Loading,
    schedules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCHEDULE]...", help="Schedule files and preset names; default: the published methods."
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", min=1, help="Prompts in a batch; default 1; may be repeated.")
    ] = None,
    visual_tokens: Annotated[
        list[int] | None,
        typer.Option("--visual-tokens", min=1, help="Visual tokens of a prompt; default 576; may be repeated."),
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option("--text-tokens", min=1, help="Text tokens of a prompt; default 64.")
    ] = None,
    new_tokens: Annotated[
        int, typer.Option("--new-tokens", min=1, help="Tokens to generate; 1 = no decode steps.")
    ] = 16,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Timed rounds; default 5, and 20 with --engine vllm.")
    ] = None,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Rounds before the timed ones.")] = 1,
    random_init: RandomInit = False,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Only the first decoder layers, with --random-init.")
    ] = None,
    engine: Engine = "transformers",
    engine_option: EngineOption = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time dense beside pruned runs: prefill, decode, memory, KV cache, and what pruning itself costs.

    With --engine vllm: requests per second and time to the first token, dense beside pruned.
    """
    of_transformers = {"--visual-tokens": visual_tokens, "--text-tokens": text_tokens, "--layers": layers}
    if check_engine(engine, engine_option, of_transformers):
        counts = {"requests": batch_size or [1], "new_tokens": new_tokens, "repeats": repeats or 20, "warmup": warmup}
        return bench_in_vllm(model, loading, schedules or [], counts, random_init, engine_option, as_json)
    repeats = repeats or 5
    if layers is not None and not random_init:
        raise InputError("needs --random-init", field="--layers", value=layers, remedy="add --random-init")
    from autoprune.bench import BenchPlan, benchmark, choose_schedules
    from autoprune.cli.bench_table import show
    from autoprune.models.config import read_config
    from autoprune.models.random_init import random_model

    config = read_config(model, layers, loading)
    depth = config.get_text_config(decoder=True).num_hidden_layers
    plan = BenchPlan(
        choose_schedules(schedules or [], depth),
        batch_size or [1],
        visual_tokens or [576],
        text_tokens or 64,
        new_tokens,
        repeats,
        warmup,
    )
    plan.check(config)
    with stderr().status("loading the model") as status:
        built = random_model(config, options=loading) if random_init else open_model(model, loading).model
        result = benchmark(built, plan, status.update)
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
        emit({**described, **result.to_dict()})
    else:
        show(described, result)
