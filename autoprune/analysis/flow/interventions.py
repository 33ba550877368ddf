"""Effect of edge ablation on the answers, by layer, beside cutting as many random edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from autoprune.analysis.flow.edge_ablation import CUTS, EdgeAblation
from autoprune.analysis.flow.targets import AnswerTokens
from autoprune.data.rows import Sample
from autoprune.evaluate.encoding import Forced, force
from autoprune.evaluate.greedy import padding_token
from autoprune.evaluate.prefix import DensePrefix
from autoprune.evaluate.repeats import repeated_rows
from autoprune.evaluate.verdicts import best_choices, check_finite, first_mismatch, row_kl, summed_log_probabilities
from autoprune.models.loading import LoadedModel

METRICS = ("correct", "probability", "kl")


class AnswerFigures(NamedTuple):
    """Figures of one run on a batch, one of each for every sample.

    Attributes:
        correct: 1.0 where the right answer is the most probable one: every token of it, or the choice as a whole.
        probability: Of the right answer.
        kl: KL(dense ‖ this) in nats, mean over the tokens of the right answer.
    """

    correct: list[float]
    probability: list[float]
    kl: list[float]


@dataclass(frozen=True)
class AblationFigures:
    """METRICS of a batch: dense, with edges cut, and with random edges cut.

    Attributes:
        dense: FloatTensor[n, 3], the dense model.
        cut: FloatTensor[n, 2, L, 3], for each of CUTS: edges cut in layer k (and the following); NaN where no layer of
            them has attention.
        control: FloatTensor[n, 2, L, 3], as many random edges cut in the same layers.
    """

    dense: Tensor
    cut: Tensor
    control: Tensor


def intervene(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    targets: Sequence[AnswerTokens],
    seeds: Sequence[int],
    window: int | None = None,
) -> AblationFigures:
    """Cut image→text and image→image attention before each layer in turn, and as many random edges.

    Args:
        loaded: The model.
        samples: The samples, all with choices or all without.
        targets: Their right answers.
        seeds: One for each sample, for its random edges.
        window: How many layers from k on are cut; None = all of them, as the released code of HiMAP does (its paper
            speaks of single layers).

    Raises:
        DataError: a sample has no edge of a kind: no visual tokens, or no text after them.
        EvaluationError: non-finite logits.
        PatchError: the model is pruned.
    """
    model = loaded.model
    sizes = [len(target.continuations) for target in targets]
    owners = [b for b, size in enumerate(sizes) for _ in range(size)]
    rows = repeated_rows(loaded, samples, sizes)
    tokens = [tokens for target in targets for tokens in target.continuations]
    padding = padding_token(model, loaded.processor)
    with rows.features_once(model):
        prefix = DensePrefix.of(model, force(model, rows.inputs, tokens, padding), ())
    rights = [sum(sizes[:b]) + target.right for b, target in enumerate(targets)]

    def figures(logits: Tensor) -> Tensor:
        return torch.tensor(_figures(prefix.logits, logits, prefix.forced, samples, rights)).T

    ablation = EdgeAblation(model, prefix, [seeds[b] for b in owners], [samples[b].id for b in owners])
    found = torch.full((2, len(samples), len(CUTS), ablation.depth, len(METRICS)), float("nan"))
    for arm, control in enumerate((False, True)):
        for number, cut in enumerate(CUTS):
            for k in range(ablation.depth):
                logits = ablation.logits(cut, k, None if window is None else k + window, control)
                if logits is not None:
                    found[arm, :, number, k] = figures(logits)
    return AblationFigures(figures(prefix.logits), found[0], found[1])


def _figures(
    dense: Tensor, logits: Tensor, forced: Forced, samples: Sequence[Sample], rights: Sequence[int]
) -> AnswerFigures:
    check_finite(logits, forced)
    totals = summed_log_probabilities(logits, forced)
    if samples[0].choices is not None:
        correct = [float(p == s.answer) for p, s in zip(best_choices(totals, samples), samples, strict=True)]
    else:
        correct = [float(parted is None) for parted in first_mismatch(logits, forced)]
    kl = row_kl(dense, logits, forced.valid)
    return AnswerFigures(correct, torch.tensor([totals[r] for r in rights]).exp().tolist(), [kl[r] for r in rights])
