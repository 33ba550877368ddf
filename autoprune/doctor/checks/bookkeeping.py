"""The pruned model runs on the tokens that the schedule's arithmetic says, at the places where they were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.doctor.case import Case
from autoprune.doctor.finding import Finding, failed, inapplicable, passed
from autoprune.doctor.watching import Entries, Seen
from autoprune.pricing.tokens import tokens_per_layer, visual_alive
from autoprune.runtime.decoder import find_decoder


def planned(case: Case) -> list[int]:
    """Tokens of the first row that each layer runs on, from the schedule and the counts of the prompt alone.

    What a rule keeps that depends on scores is not arithmetic: there, what the patch reports.
    """
    prompt, report = case.subject.prompts.rows[0], case.pruned.report
    visual = int(prompt.visual[0].sum())
    stages = case.schedule.stages
    kept = None
    if any(stage.keep.kind in ("mass", "threshold") for stage in stages):
        kept = [int(report.visual_tokens[stage.layer, 0]) for stage in stages]
    alive = visual_alive(case.schedule, visual, kept)
    return tokens_per_layer(case.schedule, alive, prompt.length - visual, case.subject.depth)


def fired(case: Case) -> Finding:
    """Every stage ran, and every layer was really called on the planned number of tokens."""
    if not case.schedule.stages:
        return inapplicable("the schedule has no stage")
    report, plan = case.pruned.report, planned(case)
    silent = sorted({stage.layer for stage in case.schedule.stages} - set(report.kept))
    if silent or not report.active:
        return failed(f"stages that did not run: before layers {silent}")
    rows = [case.pruned.run.prefill[i].rows for i in range(case.subject.depth)]
    for name, counts in {"ran on": rows, "is reported with": report.tokens[:, 0].tolist()}.items():
        wrong = next((i for i, n in enumerate(counts) if n != plan[i]), None)
        if wrong is not None:
            return failed(f"layer {wrong} {name} {counts[wrong]} tokens, planned are {plan[wrong]}")
    return passed(f"{len(case.schedule.stages)} stages; tokens per layer as planned: {_runs(plan)}")


def entries(case: Case) -> Finding:
    """Each cache layer holds the planned number of entries, after the prefill and after the answer, yet reports all."""
    run, dense, plan = case.pruned.run, case.subject.dense, planned(case)
    new = len(case.subject.answer) - 1
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


def _entry_fault(own: Entries | None, full: Entries | None, plan: int) -> str | None:
    if full is None or own is None:
        return None if own is full else "keys where the dense model has none, or the reverse"
    wanted = min(plan, full.held)  # a sliding window holds less than the sequence
    if own.held != wanted:
        return f"holds {own.held} entries, planned are {wanted}"
    return None if own.logical == full.logical else f"reports length {own.logical}, the sequence has {full.logical}"


def positions(case: Case) -> Finding:
    """Survivors and later tokens are rotated as in the dense run, or by places counted anew with compact positions."""
    run, dense = case.pruned.run, case.subject.dense
    alive = case.reference(case.pruned.kept()).alive
    compared = 0
    for i in range(case.subject.depth):
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
    return passed(f"survivors and later tokens in {case.subject.depth} layers rotated for {_whose(case)}")


def _whose(case: Case) -> str:
    return "the places of the dense run" if case.schedule.positions == "keep" else "places counted without gaps"


def _picked(seen: Seen, index: Tensor) -> Seen:
    rotary = tuple(t.index_select(-2, index.to(t.device)) for t in seen.rotary)
    places = seen.places
    return Seen(len(index), rotary, None if places is None else places.index_select(-1, index.to(places.device)))


def _moved(case: Case, seen: Seen, back: Tensor) -> tuple[Tensor, ...]:
    """The rotary embeddings of tokens that stand `back` places earlier."""
    if not seen.rotary or seen.places is None:
        return ()
    decoder: Any = find_decoder(case.subject.model)
    return tuple(decoder.rotary_emb(seen.rotary[0], seen.places - back.to(seen.places.device)))


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
