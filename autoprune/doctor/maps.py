"""What a stage should keep, judged by full attention maps: the slow truth beside the runtime's few rows."""

from __future__ import annotations

from torch import Tensor

from autoprune.schedule import AttentionCriterion, Keep, Stage


def map_criterion(stage: Stage) -> AttentionCriterion | None:
    """The criterion of a stage whose choice follows from one attention map; raters and combined rows need more."""
    criterion = stage.criterion
    if not stage.selects or not isinstance(criterion, AttentionCriterion):
        return None
    return None if criterion.rows == "raters" or criterion.combine else criterion


def voters(criterion: AttentionCriterion, visual: Tensor, alive: Tensor) -> Tensor:
    """BoolTensor[S]: the rows that vote in a prompt without padding."""
    if criterion.rows == "visual":
        return visual & alive
    if criterion.rows == "text":
        return alive & ~visual & (visual.cumsum(0) > 0)
    rows = alive.clone()
    if criterion.rows == "last":
        rows[:-1] = False
    return rows


def received(weights: Tensor, allowed: Tensor, rows: Tensor, criterion: AttentionCriterion) -> Tensor:
    """FloatTensor[S]: the attention that each position gets.

    Args:
        weights: [H, S, S], after the softmax.
        allowed: BoolTensor[S, S], which columns a row may see.
        rows: BoolTensor[S], the rows that vote.
        criterion: How heads and rows are put together.
    """
    voted = weights[:, rows].float()
    over = voted.amax(0) if criterion.heads == "max" else voted.mean(0) if criterion.heads == "mean" else voted.sum(0)
    if criterion.normalize == "causal":
        return over.sum(0) / allowed[rows].sum(0).clamp(min=1)
    return over.mean(0) if criterion.reduce == "mean" else over.sum(0)


def spread(scores: Tensor, candidates: Tensor) -> float:
    """How far the worst score is below the best one, as a share of it."""
    best, worst = float(scores[candidates].max()), float(scores[candidates].min())
    return (best - worst) / best if best > 0 else 0.0


def misjudged(scores: Tensor, candidates: Tensor, kept: Tensor, keep: Keep) -> float:
    """By how much of the best score a decision contradicts the scores; 0 if it does not.

    Args:
        scores: FloatTensor[S].
        candidates: BoolTensor[S], the visual tokens before the stage.
        kept: BoolTensor[S], those after it.
        keep: The rule; how many tokens a ratio or a count keeps is not judged here.
    """
    best = float(scores[candidates].max())
    chosen, left = scores[candidates & kept], scores[candidates & ~kept]
    worst = float(chosen.min())
    wrong = float(left.max()) - worst if left.numel() else 0.0
    if keep.threshold is not None and left.numel():
        wrong = max(wrong, float(left.max()) - keep.threshold)
    if keep.threshold is not None and chosen.numel() > 1:
        wrong = max(wrong, keep.threshold - worst)
    if keep.mass is not None:
        total, held = float(scores[candidates].sum()), float(chosen.sum())
        short, spare = keep.mass * total - held, held - worst - keep.mass * total
        wrong = max(wrong, short, spare if chosen.numel() > 1 else 0.0)
    return max(wrong, 0.0) / best if best > 0 else 0.0
