"""The result does not depend on how the model is run: padded or alone, with a cache or without, with either kernel."""

from __future__ import annotations

from autoprune.measure.conformance.case import Case, Pruned
from autoprune.measure.conformance.checks.equality import by_attention, judged_by_maps, matched
from autoprune.measure.conformance.finding import Finding, compared, inapplicable, passed
from autoprune.measure.conformance.tolerance import distance


def padded_batch(case: Case) -> Finding:
    """Each row of a left-padded batch keeps and computes what the reference keeps and computes on it alone."""
    subject = case.subject
    noise = subject.padding_noise
    pruned = case.pruned_on(subject.prompts.batch)
    equal, ranked = [], []
    for row in range(len(subject.prompts.rows)):
        reference = case.reference(pruned.kept(row), row)
        equal.append(matched(case, pruned, reference, f"row {row}", noise, row=row, of=subject.dense_batch))
        if by_attention(case):
            ranked.append(judged_by_maps(case, pruned, f"row {row}", noise, row=row))
    unlike = [f for f in (*equal, *ranked) if f.status == "fail"] or [f for f in equal if f.status != "pass"]
    if unlike:
        return unlike[0]
    what = f"{len(equal)} rows of {_lengths(case)} tokens, {_moved_tokens(case, pruned)}"
    return passed(f"{what}; {equal[0].reason}")


def without_cache(case: Case) -> Finding:
    """Every answer token recomputed from the whole sequence gives what decoding with the cache gives."""
    subject = case.subject
    pruned = case.pruned_on(subject.prompts.rows[0], use_cache=False)
    steps, expected = pruned.run.steps, case.pruned.run.steps
    what = f"{len(steps)} answer tokens"
    if _moved_tokens(case, pruned) != _SAME:
        # Rounding decided otherwise between tokens of one score; what was decided last holds for the last step.
        steps, expected = steps[-1:], case.reference(pruned.kept()).run.steps[-1:]
        what = f"last answer token, {_moved_tokens(case, pruned)}"
    effect = distance(case.pruned.run.steps, subject.dense.steps)
    return compared(distance(steps, expected), subject.tolerance(subject.cache_noise), effect, what)


def other_kernel(case: Case) -> Finding:
    """The other attention implementation, pruned, against the reference."""
    subject = case.subject
    if subject.other_kernel is None:
        return inapplicable(f"the model runs {subject.kernel} attention only")
    pruned = case.pruned_on(subject.prompts.rows[0], subject.other_kernel)
    what = f"{subject.other_kernel}, {_moved_tokens(case, pruned)}"
    return matched(case, pruned, case.reference(pruned.kept()), what)


_SAME = "the same tokens kept"


def _moved_tokens(case: Case, pruned: Pruned) -> str:
    """How the kept tokens of the first row differ from those of the row alone."""
    alone, here = case.pruned.kept(), pruned.kept()
    others = sum(len(set(alone[k].tolist()) - set(here[k].tolist())) for k in alone)
    return _SAME if not others else f"{others} other tokens of equal rank kept"


def _lengths(case: Case) -> str:
    return " and ".join(str(row.length) for row in case.subject.prompts.rows)
