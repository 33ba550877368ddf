"""The withdrawal sweep over a data set: curves with intervals, per task, and the layer that a rule takes from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from autoprune import presets
from autoprune.analysis.divergences import Divergences
from autoprune.analysis.layer_choice import ETA, Rule, excess_bounds, robust, vtw_compat
from autoprune.analysis.sweep_result import Curve, SweepResult
from autoprune.analysis.upper_bound import LEAST_GROUPS, check_groups
from autoprune.analysis.withdrawal import WithdrawalSweep, withdrawal_sweep
from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.encoding import encode, to_device
from autoprune.evaluate.statistics import wilson
from autoprune.models.loading import LoadedModel
from autoprune.pricing.pricer import Pricer, PromptCounts


def checked_rule(name: str, eta: float, data: SampleSet) -> Rule:
    """The rule of this name, after a look at whether it can be followed on these rows.

    Raises:
        DataError: there is no such rule, `eta` is not above 0, or the rule needs rows of at least four groups.
    """
    known: Rule | None = next((rule for rule in get_args(Rule) if rule == name), None)
    if known is None:
        raise DataError("no such rule", field="rule", value=name, remedy=f"use {' or '.join(get_args(Rule))}")
    if not eta > 0:
        raise DataError("must be above 0", field="eta", value=eta, remedy=f"the authors of VTW use {ETA} nats")
    if known == "robust":
        check_groups([sample.group for sample in data])
    return known


def sweep(
    loaded: LoadedModel,
    data: SampleSet,
    *,
    rule: Rule = "robust",
    eta: float = ETA,
    max_new_tokens: int = 32,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> SweepResult:
    """Measure withdrawal before every layer on every row, one row in memory at a time.

    Args:
        loaded: The model.
        data: The rows; their answers are not used.
        rule: ``robust`` or ``vtw-compat``, see `layer_choice`.
        eta: Bound of the rule in nats.
        max_new_tokens: Longest answer of the dense model to compare on; 1 = the first token only.
        on_sample: Told (rows done, rows).

    Raises:
        DataError: as `checked_rule`, or a row cannot be used.
        ModelError: the model is not supported.
    """
    checked_rule(rule, eta, data)
    groups = [sample.group for sample in data]
    pricer = Pricer(loaded.config, loaded.model.dtype.itemsize)
    parts = []
    for done, sample in enumerate(data, start=1):
        parts.append(_measure(loaded, sample, max_new_tokens))
        on_sample(done, len(data))
    found = WithdrawalSweep.cat(parts)
    first, answer = _table(found.first), _table(found.answer)
    kl, noise = answer["dense_withdrawn"], found.noise.dense_withdrawn.numpy()
    choices: dict[str, int | None] = {"vtw-compat": vtw_compat(first["withdrawn_dense"], eta)}
    bound = None
    if len(set(groups)) >= LEAST_GROUPS:
        bound = [value if np.isfinite(value) else None for value in excess_bounds(kl, noise, groups).tolist()]
        choices["robust"] = robust(kl, noise, groups, eta)
    return SweepResult(
        data=data.name,
        data_digest=data.digest,
        samples=len(data),
        groups=len(set(groups)),
        max_new_tokens=max_new_tokens,
        answer_tokens=float(np.mean([len(tokens) for tokens in found.answers])),
        flops_ratio=_flops_ratio(pricer, found, data),
        first={name: Curve.over(values, groups) for name, values in first.items()},
        answer={name: Curve.over(values, groups) for name, values in answer.items()},
        same=found.same.mean(0).tolist(),
        same_ci=[wilson(stay, len(data)) for stay in found.same.sum(0).tolist()],
        noise=float(noise.mean()),
        bound=bound,
        tasks=_tasks(data, kl, found.same.numpy()),
        rule=rule,
        eta=eta,
        choices=choices,
    )


def _measure(loaded: LoadedModel, sample: Sample, max_new_tokens: int) -> WithdrawalSweep:
    inputs = to_device(encode(loaded.processor, [sample]), loaded.model.device)
    try:
        return withdrawal_sweep(loaded.model, [inputs], max_new_tokens=max_new_tokens)
    except DataError as error:
        if error.field == "max_new_tokens":
            raise
        raise DataError(f"row {sample.id} {error.message}", field="data", remedy=error.remedy) from error


def _table(divergences: Divergences) -> dict[str, NDArray[np.float64]]:
    return {f.name: getattr(divergences, f.name).double().numpy() for f in fields(divergences)}


def _flops_ratio(pricer: Pricer, found: WithdrawalSweep, data: SampleSet) -> list[float]:
    prompts = [_counts(*row) for row in zip(found.visual, found.answers, data, strict=True)]
    ratios = []
    for k in range(found.same.shape[1]):
        prices = [pricer.price(presets.vtw(k), counts, [0]) for counts in prompts]
        ratios.append(sum(p.decoder_flops for p in prices) / sum(p.decoder_flops_dense for p in prices))
    return ratios


def _counts(visual: torch.Tensor, answer: list[int], sample: Sample) -> PromptCounts:
    seen, first = int(visual.sum()), int(visual.to(torch.uint8).argmax())
    return PromptCounts(seen, len(visual) - seen, first, len(sample.images), len(answer))


def _tasks(data: SampleSet, kl: NDArray[np.float64], same: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    tasks = np.array([sample.task or "" for sample in data])
    return {
        task: {
            "samples": int((tasks == task).sum()),
            "kl": kl[tasks == task].mean(0).tolist(),
            "same": same[tasks == task].mean(0).tolist(),
        }
        for task in sorted(set(tasks.tolist()) - {""})
    }
