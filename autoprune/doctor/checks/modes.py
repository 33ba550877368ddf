"""The result does not depend on how the model is run: padded or alone, with a cache or without, with either kernel."""

from __future__ import annotations

from autoprune.doctor.case import Case, Pruned
from autoprune.doctor.checks.equality import judged_by_maps, matched
from autoprune.doctor.finding import Finding, compared, failed, inapplicable, passed
from autoprune.doctor.tolerance import distance
from autoprune.schedule import RandomCriterion, UniformCriterion


def padded_batch(case: Case) -> Finding:
    """Each row of a left-padded batch keeps and computes what it keeps alone and the reference computes."""
    subject = case.subject
    noise = subject.padding_noise
    pruned = case.pruned_on(subject.prompts.batch)
    equal, choices = [], []
    for row in range(len(subject.prompts.rows)):
        choices.append(_choice(case, pruned, f"row {row}", noise, row=row))
        reference = case.reference(pruned.kept(row), row)
        equal.append(matched(case, pruned, reference, f"row {row}", noise, row=row, of=subject.dense_batch))
    findings = (*choices, *equal)
    for status in ("fail", "not applicable"):
        found = next((finding for finding in findings if finding.status == status), None)
        if found:
            return found
    lengths = " and ".join(str(row.length) for row in subject.prompts.rows)
    return passed(f"rows of {lengths} tokens, {choices[0].reason}; {equal[0].reason}")


def without_cache(case: Case) -> Finding:
    """Every answer token recomputed from the whole sequence gives what decoding with the cache gives."""
    subject = case.subject
    noise = subject.cache_noise
    pruned = case.pruned_on(subject.prompts.rows[0], use_cache=False)
    choice = _choice(case, pruned, "whole sequence", noise)
    if choice.status == "fail":
        return choice
    steps, expected = pruned.run.steps, case.pruned.run.steps
    if choice.reason != _SAME:  # what was decided last holds for the last step
        steps, expected = steps[-1:], case.reference(pruned.kept()).run.steps[-1:]
    effect = distance(case.pruned.run.steps, subject.dense.steps)
    what = f"{len(steps)} answer tokens, {choice.reason}"
    return compared(distance(steps, expected), subject.tolerance(noise), effect, what)


def other_kernel(case: Case) -> Finding:
    """The other attention implementation, pruned, against the reference."""
    subject = case.subject
    if subject.other_kernel is None:
        return inapplicable(f"the model runs {subject.kernel} attention only")
    pruned = case.pruned_on(subject.prompts.rows[0], subject.other_kernel)
    choice = _choice(case, pruned, subject.other_kernel)
    if choice.status == "fail":
        return choice
    return matched(case, pruned, case.reference(pruned.kept()), f"{subject.other_kernel}, {choice.reason}")


_SAME = "the same tokens kept"


def _choice(case: Case, pruned: Pruned, what: str, *noises: float, row: int = 0) -> Finding:
    """Whether a row keeps what it keeps alone; rounding may decide otherwise only between tokens of equal rank."""
    alone, here = case.alone(row).kept(), pruned.kept(row)
    others = {k: len(set(alone[k].tolist()) ^ set(here.get(k, alone[k][:0]).tolist())) for k in alone}
    if not any(others.values()):
        return passed(_SAME)
    first = next(stage for stage in case.schedule.stages if others.get(stage.layer))
    if isinstance(first.criterion, RandomCriterion | UniformCriterion):
        return failed(f"{what}: the stage before layer {first.layer} keeps other tokens")
    judged = judged_by_maps(case, pruned, what, *noises, row=row)
    return judged if judged.status == "fail" else passed(f"{sum(others.values()) // 2} other tokens of equal rank kept")
