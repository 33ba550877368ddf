"""The result of a withdrawal sweep over a data set, and the schedule that follows from it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from autoprune import presets
from autoprune.analysis.layer_choice import Rule
from autoprune.evaluate.statistics import clustered_means
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class Curve:
    """One quantity for withdrawal before each layer 0 to L-1.

    Attributes:
        mean: Mean over samples.
        low: Lower end of its 95 % interval, bootstrap over groups; None with fewer than two groups.
        high: Upper end, likewise.
        p90: 90th percentile over samples.
    """

    mean: list[float]
    low: list[float] | None
    high: list[float] | None
    p90: list[float]

    @classmethod
    def over(cls, values: ArrayLike, groups: Sequence[Hashable]) -> Self:
        """Of values [n, L] with the cluster of each sample."""
        table = np.asarray(values, dtype=float)
        p90 = np.quantile(table, 0.9, axis=0).tolist()
        if len(set(groups)) < 2:
            return cls(table.mean(0).tolist(), None, None, p90)
        mean, low, high = (ends.tolist() for ends in clustered_means(table, groups))
        return cls(mean, low, high, p90)

    def at(self, k: int) -> dict[str, Any]:
        """The figures of one layer."""
        ends = None if self.low is None or self.high is None else [self.low[k], self.high[k]]
        return {"mean": self.mean[k], "ci": ends, "p90": self.p90[k]}


@dataclass(frozen=True)
class SweepResult:
    """What withdrawal before each layer costs in likeness to the dense model, and what it saves.

    Attributes:
        data: Name of the rows.
        data_digest: Their digest.
        samples: How many.
        groups: How many independent groups of them.
        max_new_tokens: Longest answer.
        answer_tokens: Mean length of the dense model's answers.
        flops_ratio: For each layer, prefill FLOPs over dense, summed over the rows.
        first: The divergences at the first answer token, by name.
        answer: The same, mean over the dense model's greedy answer, teacher-forced.
        same: Share of samples whose greedy answer stays the same, for each layer.
        same_ci: Its 95 % interval (Wilson), for each layer.
        noise: Mean KL(dense ‖ dense), over the answer, of the model against itself on kernels of another shape.
        bound: For each layer, what ``robust`` holds against `eta`: the upper bound of KL(dense ‖ withdrawn) over the
            answer, above the noise; None where there is none, and as a whole with fewer than four groups.
        tasks: Per task the number of samples, and for each layer the mean KL(dense ‖ withdrawn) over the answer and
            the share of answers that stay; empty where rows name no tasks.
        rule: The rule that takes the layer.
        eta: Its bound in nats.
        choices: The layer that each rule takes, None for no withdrawal; ``robust`` only where there are bounds.
    """

    data: str
    data_digest: str
    samples: int
    groups: int
    max_new_tokens: int
    answer_tokens: float
    flops_ratio: list[float]
    first: dict[str, Curve]
    answer: dict[str, Curve]
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
        """The choice as a schedule with its evidence; without stages where the choice is not to withdraw."""
        evidence: dict[str, Any] = {
            "made_by": "autoprune sweep",
            "rule": self.rule,
            "eta": self.eta,
            "noise": self.noise,
            "data": self.data,
            "data_digest": self.data_digest,
            "model_fingerprint": loaded.fingerprint,
            "samples": self.samples,
            "groups": self.groups,
            "max_new_tokens": self.max_new_tokens,
        }
        k, made = self.layer, presets.dense()
        if k is not None:
            made = presets.vtw(k)
            evidence["flops_ratio"] = self.flops_ratio[k]
            evidence["bound"] = self.bound[k] if self.bound else None
            evidence |= {"same_answer": self.same[k], "same_answer_ci": list(self.same_ci[k])}
            evidence["first"] = {name: curve.at(k) for name, curve in self.first.items()}
            evidence["answer"] = {name: curve.at(k) for name, curve in self.answer.items()}
        return Schedule(stages=made.stages, evidence=evidence).with_model(loaded.config, loaded.name)
