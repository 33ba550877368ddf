"""Checks of equality: pruned runs compute what the dense model or the masked reference computes.

And it does not matter how the model is run: padded or alone, with a cache or without, with either kernel.
"""

from __future__ import annotations

import torch

from autoprune.doctor.case import Case, PrunedRun, ReferenceRun
from autoprune.doctor.outcomes import Outcome, compared, distance, failed, inapplicable, passed
from autoprune.doctor.reference import map_criterion, misjudged, spread
from autoprune.doctor.runs import DictatedRun
from autoprune.schedule import Reads

_SAME = "the same tokens kept"


def identity(case: Case) -> Outcome:
    """All hooks and observers active, nothing dropped: the same bits, alone and in a padded batch."""
    tested = case.tested
    batch = case.pruned_on(tested.prompts.batch).run
    pairs = [(case.pruned.run, tested.dense), (batch, tested.dense_batch)]
    what = f"prompt and {len(tested.answer)} answer tokens, one row and a padded batch"
    if all(a.same_bits(b) for a, b in pairs):
        return passed(f"bit-equal logits: {what}")
    apart = max(a.distance(b) for a, b in pairs)
    if tested.repeatable:
        return failed(f"{what}: {apart:.1e} apart, where the dense model repeats itself bit by bit")
    limit = tested.tolerance()
    judged = passed if apart <= limit else failed
    return judged(f"{what}: {apart:.1e} apart, {limit:.1e} allowed; the dense model does not repeat its own bits here")


def masked_reference(case: Case) -> Outcome:
    """Logits of survivors and of answer tokens against the same model with the dropped tokens masked."""
    pruned = case.pruned
    return matched(case, pruned, case.reference(pruned.kept()), "survivors and answer")


def matched(
    case: Case,
    pruned: PrunedRun,
    reference: ReferenceRun,
    what: str,
    *noises: float,
    row: int = 0,
    of: DictatedRun | None = None,
) -> Outcome:
    """The comparison of one row of a pruned run with the reference.

    Args:
        case: The case.
        pruned: The run.
        reference: Its reference, on that row alone.
        what: What is compared, in words.
        noises: Sources of noise that come on top of the kernel's.
        row: The row.
        of: The dense run of the same batch; None = that of the first row.
    """
    dense = of or case.tested.dense
    alive = reference.alive[-1].cpu()
    columns = torch.tensor(case.tested.prompts.rows[row].columns)
    kept = alive[columns]
    apart = max(
        distance(pruned.run.logits[row][kept], reference.run.logits[0][kept]),
        distance(pruned.run.steps[:, row], reference.run.steps[:, 0]),
    )
    effect = max(
        distance(pruned.run.logits[row][kept], dense.logits[row][kept]),
        distance(pruned.run.steps[:, row], dense.steps[:, row]),
    )
    return compared(apart, case.tested.tolerance(*noises), effect, what)


def decisions(case: Case) -> Outcome:
    """Stages that choose by attention kept the tokens that full attention maps rank highest."""
    if not by_attention(case):
        return inapplicable("no stage chooses by an attention map")
    return judged_by_maps(case, case.pruned, "full attention maps")


def by_attention(case: Case) -> bool:
    """Whether a stage chooses by an attention map."""
    return any(map_criterion(stage) for stage in case.schedule.stages)


def judged_by_maps(case: Case, pruned: PrunedRun, what: str, *noises: float, row: int = 0) -> Outcome:
    """Whether the decisions on one row agree with full attention maps of that row alone; `noises` as in `matched`."""
    kept = pruned.kept(row)
    reference = case.reference(kept, row)
    visual = case.tested.prompts.rows[row].visual[0].cpu()
    limit = case.tested.tolerance(*noises)
    worst, alive, judged = 0.0, visual, 0
    for stage in case.schedule.stages:
        left = torch.zeros_like(visual)
        left[kept[stage.layer].cpu()] = True
        if map_criterion(stage) and bool(alive.any()):
            scores = reference.scores.get(stage.layer)
            if scores is None:
                return inapplicable(f"{what}: the model gives no attention maps around layer {stage.layer}")
            if spread(scores.cpu(), alive) > limit:
                worst = max(worst, misjudged(scores.cpu(), alive, left & visual, stage.keep))
                judged += 1
        alive = visual & left
    if not judged:
        return inapplicable(f"{what}: all scores are closer together than rounding brings them, {limit:.1e}")
    verdict = passed if worst <= limit else failed
    return verdict(f"{what}: dropped tokens score at most {worst:.1e} above kept ones, {limit:.1e} of the best allowed")


def padded_batch(case: Case) -> Outcome:
    """Each row of a left-padded batch keeps and computes what it keeps alone and the reference computes."""
    tested = case.tested
    noise = tested.padding_noise
    pruned = case.pruned_on(tested.prompts.batch)
    equal, choices = [], []
    for row in range(len(tested.prompts.rows)):
        choices.append(_choice(case, pruned, f"row {row}", noise, row=row))
        reference = case.reference(pruned.kept(row), row)
        equal.append(matched(case, pruned, reference, f"row {row}", noise, row=row, of=tested.dense_batch))
    outcomes = (*choices, *equal)
    for status in ("fail", "not applicable"):
        worst = next((outcome for outcome in outcomes if outcome.status == status), None)
        if worst:
            return worst
    lengths = " and ".join(str(row.length) for row in tested.prompts.rows)
    return passed(f"rows of {lengths} tokens, {choices[0].reason}; {equal[0].reason}")


def without_cache(case: Case) -> Outcome:
    """Every answer token recomputed from the whole sequence gives what decoding with the cache gives."""
    tested = case.tested
    noise = tested.cache_noise
    pruned = case.pruned_on(tested.prompts.rows[0], use_cache=False)
    choice = _choice(case, pruned, "whole sequence", noise)
    if choice.status == "fail":
        return choice
    steps, expected = pruned.run.steps, case.pruned.run.steps
    if choice.reason != _SAME:  # what was decided last holds for the last step
        steps, expected = steps[-1:], case.reference(pruned.kept()).run.steps[-1:]
    effect = distance(case.pruned.run.steps, tested.dense.steps)
    what = f"{len(steps)} answer tokens, {choice.reason}"
    return compared(distance(steps, expected), tested.tolerance(noise), effect, what)


def other_kernel(case: Case) -> Outcome:
    """The other attention implementation, pruned, against the reference."""
    tested = case.tested
    if tested.other_kernel is None:
        return inapplicable(f"the model runs {tested.kernel} attention only")
    pruned = case.pruned_on(tested.prompts.rows[0], tested.other_kernel)
    choice = _choice(case, pruned, tested.other_kernel)
    if choice.status == "fail":
        return choice
    return matched(case, pruned, case.reference(pruned.kept()), f"{tested.other_kernel}, {choice.reason}")


def _choice(case: Case, pruned: PrunedRun, what: str, *noises: float, row: int = 0) -> Outcome:
    """Whether a row keeps what it keeps alone; rounding may decide otherwise only between tokens of equal rank."""
    alone, here = case.alone(row).kept(), pruned.kept(row)
    others = {k: len(set(alone[k].tolist()) ^ set(here.get(k, alone[k][:0]).tolist())) for k in alone}
    if not any(others.values()):
        return passed(_SAME)
    first = next(stage for stage in case.schedule.stages if others.get(stage.layer))
    if first.criterion is not None and first.criterion.reads is Reads.NOTHING:
        return failed(f"{what}: the stage before layer {first.layer} keeps other tokens")
    judged = judged_by_maps(case, pruned, what, *noises, row=row)
    return judged if judged.status == "fail" else passed(f"{sum(others.values()) // 2} other tokens of equal rank kept")
