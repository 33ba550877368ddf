"""The pruned model computes what it should: the dense result, the reference's result, and nothing after the undo."""

from __future__ import annotations

import torch

from autoprune.doctor.case import Case, Pruned, Reference
from autoprune.doctor.finding import Finding, compared, failed, inapplicable, passed
from autoprune.doctor.maps import map_criterion, misjudged, spread
from autoprune.doctor.runs import Run
from autoprune.doctor.tolerance import distance
from autoprune.doctor.traces import differences, traces
from autoprune.runtime import apply


def identity(case: Case) -> Finding:
    """All hooks and observers active, nothing dropped: the same bits, alone and in a padded batch."""
    subject = case.subject
    batch = case.pruned_on(subject.prompts.batch).run
    pairs = [(case.pruned.run, subject.dense), (batch, subject.dense_batch)]
    what = f"prompt and {len(subject.answer)} answer tokens, one row and a padded batch"
    if all(_same_bits(a, b) for a, b in pairs):
        return passed(f"bit-equal logits: {what}")
    found = max(_apart(a, b) for a, b in pairs)
    if subject.repeatable:
        return failed(f"{what}: {found:.1e} apart, where the dense model repeats itself bit by bit")
    limit = subject.tolerance()
    judged = passed if found <= limit else failed
    return judged(f"{what}: {found:.1e} apart, {limit:.1e} allowed; the dense model does not repeat its own bits here")


def masked_reference(case: Case) -> Finding:
    """Logits of survivors and of answer tokens against the same model with the dropped tokens masked."""
    pruned = case.pruned
    return matched(case, pruned, case.reference(pruned.kept()), "survivors and answer")


def matched(
    case: Case, pruned: Pruned, reference: Reference, what: str, *noises: float, row: int = 0, of: Run | None = None
) -> Finding:
    """The comparison of one row of a pruned run with the reference.

    Args:
        case: The case.
        pruned: The run.
        reference: Its reference, on that row alone.
        what: What is compared, for people.
        noises: Sources of noise that come on top of the kernel's.
        row: The row.
        of: The dense run of the same batch; None = that of the first row.
    """
    dense = of or case.subject.dense
    alive = reference.alive[-1].cpu()
    columns = torch.tensor(case.subject.prompts.rows[row].columns)
    kept = alive[columns]
    found = max(
        distance(pruned.run.logits[row][kept], reference.run.logits[0][kept]),
        distance(pruned.run.steps[:, row], reference.run.steps[:, 0]),
    )
    effect = max(
        distance(pruned.run.logits[row][kept], dense.logits[row][kept]),
        distance(pruned.run.steps[:, row], dense.steps[:, row]),
    )
    return compared(found, case.subject.tolerance(*noises), effect, what)


def decisions(case: Case) -> Finding:
    """Stages that choose by attention kept the tokens that full attention maps rank highest."""
    if not by_attention(case):
        return inapplicable("no stage chooses by an attention map")
    return judged_by_maps(case, case.pruned, "full attention maps")


def by_attention(case: Case) -> bool:
    """Whether a stage chooses by an attention map."""
    return any(map_criterion(stage) for stage in case.schedule.stages)


def judged_by_maps(case: Case, pruned: Pruned, what: str, *noises: float, row: int = 0) -> Finding:
    """Whether the decisions on one row agree with full attention maps of that row alone; `noises` as in `matched`."""
    kept = pruned.kept(row)
    reference = case.reference(kept, row)
    visual = case.subject.prompts.rows[row].visual[0].cpu()
    limit = case.subject.tolerance(*noises)
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


def undo(case: Case) -> Finding:
    """After a patched run and `remove()`: the same bits, and no hook, attribute or kernel left."""
    subject, prompt = case.subject, case.subject.prompts.rows[0]
    before = traces(subject.model)
    with apply(subject.model, case.schedule, prompt.mask):
        subject.run(prompt)
    left = differences(before, traces(subject.model))
    if left:
        return failed(f"left behind: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}")
    again = subject.run(prompt)
    if _same_bits(again, subject.dense):
        return passed("bit-equal logits; no hook, attribute or kernel left")
    found = _apart(again, subject.dense)
    if subject.repeatable or not found <= subject.tolerance():
        return failed(f"other logits than before: {found:.1e} apart")
    return passed(f"no hook, attribute or kernel left; {found:.1e} apart, as two dense runs are here")


def _same_bits(a: Run, b: Run) -> bool:
    return torch.equal(a.steps, b.steps) and all(map(torch.equal, a.logits, b.logits))


def _apart(a: Run, b: Run) -> float:
    return max(distance(a.steps, b.steps), *map(distance, a.logits, b.logits))
