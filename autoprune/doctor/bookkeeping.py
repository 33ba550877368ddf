"""Checks of bookkeeping: tokens per layer, cache entries and positions are as planned, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autoprune.doctor.case import Case
from autoprune.doctor.outcomes import Outcome, failed, inapplicable, passed
from autoprune.doctor.runs import CacheEntries, LayerCall
from autoprune.pricing.tokens import tokens_per_layer, visual_alive
from autoprune.runtime import apply
from autoprune.runtime.decoder import find_decoder
from autoprune.schedule.criteria.declaration import COUNTS

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
)


def planned(case: Case) -> list[int]:
    """Tokens of the first row that each layer runs on, from the schedule and the counts of the prompt alone.

    Where a keep rule depends on scores, which is no arithmetic, the count is the one that the patch reports.
    """
    prompt, report = case.tested.prompts.rows[0], case.pruned.report
    visual = int(prompt.visual[0].sum())
    stages = case.schedule.stages
    kept = None
    if any(stage.keep.kind not in COUNTS for stage in stages):
        kept = [int(report.visual_tokens[stage.layer, 0]) for stage in stages]
    alive = visual_alive(case.schedule, visual, kept)
    return tokens_per_layer(case.schedule, alive, prompt.length - visual, case.tested.depth)


def fired(case: Case) -> Outcome:
    """Every stage ran, and every layer was really called on the planned number of tokens."""
    if not case.schedule.stages:
        return inapplicable("the schedule has no stage")
    report, plan = case.pruned.report, planned(case)
    silent = sorted({stage.layer for stage in case.schedule.stages} - set(report.kept))
    if silent or not report.active:
        return failed(f"stages that did not run: before layers {silent}")
    rows = [case.pruned.run.prefill[i].rows for i in range(case.tested.depth)]
    for name, counts in {"ran on": rows, "is reported with": report.tokens[:, 0].tolist()}.items():
        wrong = next((i for i, n in enumerate(counts) if n != plan[i]), None)
        if wrong is not None:
            return failed(f"layer {wrong} {name} {counts[wrong]} tokens, planned are {plan[wrong]}")
    return passed(f"{len(case.schedule.stages)} stages; tokens per layer as planned: {_runs(plan)}")


def entries(case: Case) -> Outcome:
    """Each cache layer holds the planned number of entries, after the prefill and after the answer, yet reports all."""
    run, dense, plan = case.pruned.run, case.tested.dense, planned(case)
    new = len(case.tested.answer) - 1
    for when, got, whole, more in (
        ("the prefill", run.filled, dense.filled, 0),
        ("the answer", run.grown, dense.grown, new),
    ):
        if len(got) != len(whole) or not any(whole):
            return inapplicable("the model keeps no cache by layers")
        for i, (own, full) in enumerate(zip(got, whole, strict=True)):
            fault = _entry_fault(own, full, plan[i] + more) if i < len(plan) else None
            if fault:
                return failed(f"layer {i} after {when}: {fault}")
    reported = case.pruned.report.kv_entries[:, 0].tolist()
    held = [own.held if own else 0 for own in run.filled]
    if reported != held[: len(reported)]:
        return failed(f"the report says {_runs(reported)}, the cache holds {_runs(held)}")
    return passed(f"entries per layer as planned: {_runs(held)}; {new} more after the answer")


def _entry_fault(own: CacheEntries | None, full: CacheEntries | None, plan: int) -> str | None:
    if full is None or own is None:
        return None if own is full else "keys where the dense model has none, or the reverse"
    wanted = min(plan, full.held)  # a sliding window holds less than the sequence
    if own.held != wanted:
        return f"holds {own.held} entries, planned are {wanted}"
    return None if own.logical == full.logical else f"reports length {own.logical}, the sequence has {full.logical}"


def positions(case: Case) -> Outcome:
    """Survivors and later tokens are rotated as in the dense run, or by places counted anew with compact positions."""
    run, dense = case.pruned.run, case.tested.dense
    alive = case.reference(case.pruned.kept()).alive
    compared = 0
    for i in range(case.tested.depth):
        own = alive[i].cpu()
        gone = (~own).cumsum(0)
        stages = (
            ("prompt", run.prefill[i], _picked(dense.prefill[i], own.nonzero().flatten()), gone[own]),
            ("last answer token", run.decode[i], dense.decode[i], gone[-1:]),
        )
        for what, got, expected, back in stages:
            rotary = _moved(case, expected, back) if case.schedule.positions == "compact" else expected.rotary
            if not rotary:
                continue
            if not _same(got.rotary, rotary):
                return failed(f"layer {i}: the {what} is not rotated for {_whose(case)}")
            compared += 1
    if not compared:
        return inapplicable("the layers are handed no rotary embeddings")
    return passed(f"survivors and later tokens in {case.tested.depth} layers rotated for {_whose(case)}")


def _whose(case: Case) -> str:
    return "the places of the dense run" if case.schedule.positions == "keep" else "places counted without gaps"


def _picked(call: LayerCall, index: Tensor) -> LayerCall:
    rotary = tuple(t.index_select(-2, index.to(t.device)) for t in call.rotary)
    places = call.places
    return LayerCall(len(index), rotary, None if places is None else places.index_select(-1, index.to(places.device)))


def _moved(case: Case, call: LayerCall, back: Tensor) -> tuple[Tensor, ...]:
    """The rotary embeddings of tokens that stand `back` places earlier."""
    if not call.rotary or call.places is None:
        return ()
    decoder: Any = find_decoder(case.tested.model)
    return tuple(decoder.rotary_emb(call.rotary[0], call.places - back.to(call.places.device)))


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


def _runs(counts: list[int]) -> str:
    """``150 ×4, 78 ×8`` from a number per layer."""
    groups: list[list[int]] = []
    for count in counts:
        if groups and groups[-1][0] == count:
            groups[-1][1] += 1
        else:
            groups.append([count, 1])
    return ", ".join(f"{count} ×{times}" for count, times in groups)


def undo(case: Case) -> Outcome:
    """After a patched run and `remove()`: the same bits, and no hook, attribute or kernel left."""
    tested, prompt = case.tested, case.tested.prompts.rows[0]
    before = traces(tested.model)
    with apply(tested.model, case.schedule, prompt.mask):
        tested.run(prompt)
    left = differences(before, traces(tested.model))
    if left:
        return failed(f"left behind: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}")
    again = tested.run(prompt)
    if again.same_bits(tested.dense):
        return passed("bit-equal logits; no hook, attribute or kernel left")
    apart = again.distance(tested.dense)
    if tested.repeatable or not apart <= tested.tolerance():
        return failed(f"other logits than before: {apart:.1e} apart")
    return passed(f"no hook, attribute or kernel left; {apart:.1e} apart, as two dense runs are here")


def traces(model: nn.Module) -> dict[str, Any]:
    """Hooks, attributes and attention functions of a model, by name: equal before and after means nothing was left."""
    state: dict[str, Any] = {f"attention function {name}": f for name, f in ALL_ATTENTION_FUNCTIONS.items()}
    for path, module in model.named_modules():
        where = path or type(module).__name__
        state[f"attributes of {where}"] = frozenset(vars(module))
        state |= {f"{hooks} of {where}": len(vars(module).get(hooks, ())) for hooks in _HOOKS}
    return state


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of the traces that changed."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
