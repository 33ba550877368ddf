"""The withdrawal sweep over a data set: curves with intervals, the layer that a rule takes from them, its schedule."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoprune import presets
from autoprune.analysis.divergences import Divergences
from autoprune.analysis.withdrawal.layer_choice import ETA, Rule, checked_rule, excess_bounds, robust, vtw_compat
from autoprune.analysis.withdrawal.sweep import WithdrawalSweep, withdrawal_sweep
from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.encoding import model_inputs
from autoprune.evaluate.statistics import LEAST_GROUPS, Curve, mean_curve, wilson
from autoprune.models.environment import versions
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer, flops_ratio
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import Schedule
from autoprune.schedule.evidence import measured_evidence


@dataclass(frozen=True)
class WithdrawalCurve(Curve):
    """One divergence for withdrawal before each layer 0 to L-1; its interval is not known with fewer than two groups.

    Attributes:
        p90: 90th percentile over samples.
    """

    p90: list[float]

    @classmethod
    def over(cls, values: ArrayLike, groups: Sequence[Hashable]) -> Self:
        """The curve of values [n, L] with the cluster of each sample."""
        table = np.asarray(values, dtype=float)
        known = mean_curve(table, groups)
        return cls(known.mean, known.low, known.high, np.quantile(table, 0.9, axis=0).tolist())

    def at(self, k: int) -> dict[str, Any]:
        """The figures of one layer."""
        ends = None if self.low[k] is None else [self.low[k], self.high[k]]
        return {"mean": self.mean[k], "ci": ends, "p90": self.p90[k]}


@dataclass(frozen=True)
class SweepResult:
    """Divergence from the dense model, and FLOPs, for withdrawal before each layer; the layer chosen by each rule.

    Attributes:
        data: Name of the rows.
        data_digest: Their digest.
        samples: Number of rows.
        groups: Number of independent groups of rows.
        max_new_tokens: Longest answer.
        answer_tokens: Mean length of the dense model's answers.
        flops_ratio: For each layer, prefill FLOPs over dense, summed over the rows.
        first: The divergences at the first answer token, by name.
        answer: The same, mean over the dense model's greedy answer, teacher-forced.
        same: Share of samples whose greedy answer stays the same, for each layer.
        same_ci: Its 95 % interval (Wilson), for each layer.
        noise: Mean KL(dense ‖ dense), over the answer, of the model against itself on kernels of another shape.
        bound: For each layer, the upper bound of KL(dense ‖ withdrawn) over the answer, above the noise, which
            ``robust`` compares with `eta`; None where there is none, and as a whole with fewer than four groups.
        tasks: Per task the number of samples, and for each layer the mean KL(dense ‖ withdrawn) over the answer and
            the share of answers that stay; empty where rows name no tasks.
        rule: The rule that takes the layer.
        eta: Its bound in nats.
        choices: The layer that each rule chooses, None = no withdrawal; ``robust`` only where there are bounds.
    """

    data: str
    data_digest: str
    samples: int
    groups: int
    max_new_tokens: int
    answer_tokens: float
    flops_ratio: list[float]
    first: dict[str, WithdrawalCurve]
    answer: dict[str, WithdrawalCurve]
    same: list[float]
    same_ci: list[tuple[float, float]]
    noise: float
    bound: list[float | None] | None
    tasks: dict[str, dict[str, Any]]
    rule: Rule
    eta: float
    choices: dict[str, int | None]

    @property
    def layer(self) -> int | None:
        """Withdraw before this layer; None: do not withdraw."""
        return self.choices[self.rule]

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {**asdict(self), "layer": self.layer}

    def schedule(self, loaded: LoadedModel) -> Schedule:
        """The chosen withdrawal as a schedule with its evidence; no stages where no layer is chosen."""
        evidence = measured_evidence(
            "autoprune sweep",
            data=self.data,
            data_digest=self.data_digest,
            samples=self.samples,
            **loaded.measured_in,
            model_fingerprint=loaded.fingerprint,
            versions=versions(),
            rule=self.rule,
            eta=self.eta,
            noise=self.noise,
            groups=self.groups,
            max_new_tokens=self.max_new_tokens,
        )
        k, made = self.layer, presets.dense()
        if k is not None:
            made = presets.vtw(k)
            evidence["flops_ratio"] = self.flops_ratio[k]
            evidence["bound"] = self.bound[k] if self.bound else None
            evidence |= {"same_answer": self.same[k], "same_answer_ci": list(self.same_ci[k])}
            evidence["first"] = {name: curve.at(k) for name, curve in self.first.items()}
            evidence["answer"] = {name: curve.at(k) for name, curve in self.answer.items()}
        return Schedule(stages=made.stages, evidence=evidence).with_model(loaded.config, loaded.name)


def sweep(
    loaded: LoadedModel,
    data: SampleSet,
    *,
    rule: Rule = "robust",
    eta: float = ETA,
    max_new_tokens: int = 32,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> SweepResult:
    """Measure withdrawal before every layer on every row of a data set, one row in memory at a time.

    Args:
        loaded: The model.
        data: The rows; their answers are not used.
        rule: ``robust`` or ``vtw-compat``, see `layer_choice`.
        eta: Bound of the rule in nats.
        max_new_tokens: Longest answer of the dense model to compare on; 1 = the first token only.
        on_sample: Called with (rows done, rows).

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
        flops_ratio=_flops_ratio(pricer, found),
        first={name: WithdrawalCurve.over(values, groups) for name, values in first.items()},
        answer={name: WithdrawalCurve.over(values, groups) for name, values in answer.items()},
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
    inputs = model_inputs(loaded, [sample])
    try:
        return withdrawal_sweep(loaded.model, [inputs], max_new_tokens=max_new_tokens)
    except DataError as error:
        if error.field == "max_new_tokens":
            raise
        raise DataError(f"row {sample.id} {error.message}", field="data", remedy=error.remedy) from error


def _table(divergences: Divergences) -> dict[str, NDArray[np.float64]]:
    return {f.name: getattr(divergences, f.name).double().numpy() for f in fields(divergences)}


def _flops_ratio(pricer: Pricer, found: WithdrawalSweep) -> list[float]:
    rows = zip(found.visual, found.answers, found.modalities, strict=True)
    prompts = [PromptCounts.of(visual, len(answer), modalities=kinds) for visual, answer, kinds in rows]
    ratios = []
    for k in range(found.same.shape[1]):
        prices = [pricer.price(presets.vtw(k), counts, [0]) for counts in prompts]
        ratios.append(flops_ratio(prices))
    return ratios


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
