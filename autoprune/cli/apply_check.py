"""``autoprune apply-check``: a schedule applied for one prefill, checked, and undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.cli.failures import FAILED
from autoprune.cli.options import DataForPrompts, Debug, Json, Loading, Model, Reading, ScheduleFile
from autoprune.cli.output import emit, stdout, table
from autoprune.cli.prologue import opened, rows_for_prompts

if TYPE_CHECKING:
    from autoprune.doctor.inspection import Inspection


def apply_check(
    model: Model,
    schedule: ScheduleFile,
    loading: Loading,
    reading: Reading,
    data: DataForPrompts = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Check a schedule on a model in one prefill: tokens and KV entries per layer, FLOPs, bit-exact undo."""
    from autoprune.doctor.inspection import inspect_schedule
    from autoprune.schedule import Schedule

    loaded_schedule = Schedule.load(schedule)
    sample = next(iter(rows_for_prompts(data, reading)), None)
    with opened(model, loading, [] if sample is None else [sample], loaded_schedule) as job:
        job.say("running the model three times")
        result = inspect_schedule(job.model, loaded_schedule, sample)
    if as_json:
        emit({"model": model, "schedule": schedule, **result.to_dict()})
    else:
        _show(result, dense=not loaded_schedule.stages)
    return 0 if result.undone and (result.fired or not loaded_schedule.stages) else FAILED


def _show(result: Inspection, dense: bool) -> None:
    rows = table(
        f"{result.visual_tokens} visual and {result.text_tokens} text tokens", "layer", "visual", "all", "KV entries"
    )
    for layer, (visual, total, entries) in enumerate(
        zip(result.visual_alive, result.tokens, result.kv_entries, strict=True)
    ):
        rows.add_row(str(layer), str(visual), str(total), str(entries))
    console = stdout()
    console.print(rows)
    fired = "no stage to fire" if dense else "every stage fired" if result.fired else "NOT ACTIVE: a stage did not run"
    token = "the same" if result.same_first_token else "another"
    undone = "bit-identical logits" if result.undone else "OTHER logits than before: please report this"
    console.print(f"{fired}; prefill FLOPs {result.flops_ratio:.1%} of dense, KV cache {result.kv_ratio:.1%}")
    console.print(f"first answer token: {token}; largest change of a logit {result.max_logit_change:.3g}")
    console.print(f"after remove(): {undone}")
