"""Answers from the logits of a batch, their distance from the dense model, and the verdict on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.errors import EvaluationError
from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.metrics import Metric, kl_divergence, token_log_probabilities
from autoprune.evaluate.results import SampleResult
from autoprune.pricing.cost import Cost


@dataclass(frozen=True)
class Answer:
    """Answer of a model to one sample, compared with the dense model's.

    Attributes:
        text: The answer, or the text of the chosen option.
        choice: Index of the chosen option, or None.
        agreement: 1.0 if it is the dense model's answer, token by token (or the same option).
        kl: KL(dense ‖ pruned), nats, mean over the tokens of the dense model's answer.
        decided: Whether teacher forcing alone settled it.
    """

    text: str
    choice: int | None
    agreement: float
    kl: float
    decided: bool


def verdict(sample: Sample, answer: Answer, dense: Answer, metric: Metric) -> float:
    """Whether an answer is right, in [0, 1]; without accepted answers the dense model's own is the reference."""
    if sample.choices is not None:
        return float(answer.choice == sample.answer)
    return metric(answer.text, sample.answers or (dense.text,))


def sample_result(
    index: int, sample: Sample, answer: Answer, dense: Answer, price: Cost, metric: Metric
) -> SampleResult:
    """Result of one sample under one schedule: verdict and price."""
    return SampleResult(
        index=index,
        id=sample.id,
        task=sample.task,
        group=sample.group,
        correct=verdict(sample, answer, dense, metric),
        agreement=answer.agreement,
        kl=answer.kl,
        text=answer.text,
        decided=answer.decided,
        flops=price.decoder_flops,
        flops_dense=price.decoder_flops_dense,
        flops_end_to_end=price.end_to_end_flops,
        flops_end_to_end_dense=price.end_to_end_flops_dense,
        kv_bytes=price.kv_bytes,
        kv_bytes_dense=price.kv_bytes_dense,
    )


def check_finite(logits: Tensor, forced: Forced) -> None:
    """Refuses logits that are not finite.

    Raises:
        EvaluationError: a logit that predicts a continuation is not finite.
    """
    bad = ~torch.isfinite(logits).all(-1) & forced.valid
    if bool(bad.any()):
        raise EvaluationError(
            f"non-finite logits in {int(bad.any(1).sum())} of {len(bad)} rows",
            remedy="use another dtype, such as bfloat16 or float32",
        )


def row_kl(dense: Tensor, pruned: Tensor, valid: Tensor) -> list[float]:
    """KL(dense ‖ pruned) of each row, mean over its valid columns.

    Args:
        dense: Logits [B, width, vocabulary].
        pruned: Logits of the same shape.
        valid: BoolTensor[B, width].
    """
    kl = torch.zeros(valid.shape, device=valid.device)
    kl[valid] = kl_divergence(dense[valid], pruned[valid])
    means: list[float] = (kl.sum(1) / valid.sum(1)).tolist()
    return means


def first_mismatch(logits: Tensor, forced: Forced) -> list[tuple[int, int] | None]:
    """First mismatch of arg-max and continuation in each row: (place in the continuation, token); None without one."""
    best = logits.argmax(-1)
    wrong = (best != forced.targets) & forced.valid
    column = wrong.to(torch.uint8).argmax(1)
    token = best.gather(1, column[:, None])[:, 0]
    place = column - (~forced.valid).sum(1)
    return [
        (p, t) if w else None for w, p, t in zip(wrong.any(1).tolist(), place.tolist(), token.tolist(), strict=True)
    ]


def summed_log_probabilities(logits: Tensor, forced: Forced) -> list[float]:
    """Log-probability of each row's continuation, in nats."""
    each = token_log_probabilities(logits, forced.targets).masked_fill(~forced.valid, 0.0)
    totals: list[float] = each.double().sum(1).tolist()
    return totals


def best_choices(totals: Sequence[float], samples: Sequence[Sample]) -> list[int]:
    """The most probable option of each sample; `totals` holds all options of the first sample, then of the next."""
    picks, start = [], 0
    for sample in samples:
        scores = totals[start : start + len(sample.choices or ())]
        picks.append(max(range(len(scores)), key=scores.__getitem__))
        start += len(scores)
    return picks


def near_ties(logits: Tensor, forced: Forced) -> list[bool]:
    """For each row, whether some token wins by a margin that rounding in another kernel could reverse.

    The margin is compared with two units in the last place of the best logit's dtype.
    """
    top = logits.float().topk(2, dim=-1).values
    noise = 2 * torch.finfo(logits.dtype).eps * top[..., 0].abs()
    close = (top[..., 0] - top[..., 1] <= noise) & forced.valid
    rows: list[bool] = close.any(1).tolist()
    return rows
