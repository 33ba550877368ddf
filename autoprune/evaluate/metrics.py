"""Metrics by name, those of other packages among them, and distances of distributions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import EvaluationError, StudyError
from autoprune.evaluate.answers import anls, exact_match, relaxed_accuracy, token_f1, vqa_accuracy
from autoprune.evaluate.objectives import TABLE, Direction
from autoprune.schedule.plugins import Plugin, load_plugin, plugin_names

GROUP = "autoprune.metrics"
"""Entry points of other packages: the name is ``vendor/name``, the value a function (see `Metric.function`)."""
VERSION = 1
"""Raised whenever a metric gives another number for the same answer, so that stored results are not mixed."""

_LONGEST_NAME = 40  # a column of the ledger holds name, version and how batches were made


@dataclass(frozen=True)
class Metric:
    """A metric: judges an answer against the accepted ones; rows with choices are judged by the choice alone.

    Attributes:
        name: One of `METRICS`, or ``vendor/name`` of another package.
        version: Raised by its author whenever the same answer would be judged differently.
        direction: ``minimize`` for an error: it counts as 1 - value, so that accuracy and drops mean the same for all.
        function: Pure, ``(text, answers) -> float in [0, 1]``.
        requires: The distribution that brings it, such as ``vendor-package>=1.2``; empty for a built-in metric.
    """

    name: str
    version: int
    direction: Direction
    function: Callable[[str, Sequence[str]], float]
    requires: str = ""

    def __call__(self, text: str, answers: Sequence[str]) -> float:
        """The verdict in [0, 1], more is better.

        Raises:
            EvaluationError: the function gives something else.
        """
        value = self.function(text, answers)
        if not 0 <= value <= 1:  # NaN too
            raise EvaluationError(
                f"metric {self.name} gives {value!r} for {text!r}", field="metric", remedy="it must give 0 to 1"
            )
        return float(value) if self.direction == "maximize" else 1.0 - float(value)

    @property
    def evidence(self) -> dict[str, Any]:
        """What a schedule notes about it; empty for exact match, the metric of schedules without a note."""
        if self == EXACT_MATCH:
            return {}
        return {"metric": {"name": self.name, "version": self.version, "requires": self.requires}}


EXACT_MATCH = Metric("exact_match", VERSION, "maximize", exact_match)
METRICS = {
    metric.name: metric
    for metric in (
        EXACT_MATCH,
        Metric("vqa", 1, "maximize", vqa_accuracy),
        Metric("anls", 1, "maximize", anls),
        Metric("relaxed_accuracy", 1, "maximize", relaxed_accuracy),
        Metric("token_f1", 1, "maximize", token_f1),
    )
}
"""The built-in metrics, by name."""


def load_metric(name: str, requires: str = "") -> Metric:
    """The metric of this name.

    Args:
        name: One of `METRICS`, or ``vendor/name`` of an installed package.
        requires: The distribution that brings it, where that is known.

    Raises:
        StudyError: no installed package brings it, several do, or it is not what a metric must be.
    """
    if name in METRICS:
        return METRICS[name]
    if "/" not in name:
        known = [*METRICS, *plugin_names(GROUP)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        remedy = f"{hint}use {', '.join(known)}, or vendor/name of an installed package"
        raise StudyError("no such metric", field="metric", value=name, remedy=remedy)
    plugin = load_plugin(GROUP, name, requires, "metric", StudyError)
    return _metric(plugin, name)


def evidence_metric(evidence: dict[str, Any]) -> Metric:
    """The metric that a schedule's evidence rests on.

    Raises:
        StudyError: it is not installed, or in another version.
    """
    noted = evidence.get("metric")
    if not isinstance(noted, dict):
        return EXACT_MATCH
    requires = str(noted.get("requires") or "")
    metric = load_metric(str(noted.get("name")), requires)
    if metric.version != noted.get("version"):
        raise StudyError(
            f"the schedule's evidence rests on version {noted.get('version')} of {metric.name}",
            field="metric",
            value=metric.version,
            remedy=f"install the version that was used: {requires}",
        )
    return metric


def measuring_version(metric: Metric) -> str:
    """Version of what results depend on besides model, data and schedule; part of every address in the ledger.

    ``1`` for exact match and a table without raised versions: the addresses of every study before plug-ins.
    """
    raised = [f"{row.name}@{row.version}" for row in TABLE if row.version > 1]
    return "+".join([str(VERSION), *raised, *([] if metric == EXACT_MATCH else [f"{metric.name}@{metric.version}"])])


def _metric(plugin: Plugin, name: str) -> Metric:
    function = plugin.loaded
    declared, version, direction = (getattr(function, key, None) for key in ("name", "version", "direction"))
    fits = declared == name and name.count("/") == 1 and len(name) <= _LONGEST_NAME
    if not (fits and callable(function) and isinstance(version, int) and direction in ("minimize", "maximize")):
        raise StudyError(
            "must be a function (text, answers) -> float with the attributes name (that of its entry point, "
            f"'vendor/name', at most {_LONGEST_NAME} letters), version (int) and direction ('maximize' or 'minimize')",
            field=plugin.where,
            value=plugin.value,
            remedy=f"correct {plugin.distribution or 'the package that brings it'}",
        )
    return Metric(name, version, direction, function, plugin.requirement)


def kl_divergence(dense: Tensor, pruned: Tensor) -> Tensor:
    """KL(dense ‖ pruned) over the whole vocabulary, in fp32.

    Args:
        dense: Logits [..., vocabulary].
        pruned: Logits of the same shape.

    Returns:
        Nats [...]; rounding below zero is cut off.
    """
    p, q = dense.float().log_softmax(-1), pruned.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)


def token_log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token under the logits before it, in fp32.

    Args:
        logits: [..., vocabulary].
        tokens: Token ids [...].

    Returns:
        Nats [...].
    """
    chosen = logits.gather(-1, tokens[..., None])[..., 0].float()
    return chosen - torch.logsumexp(logits.float(), -1)
