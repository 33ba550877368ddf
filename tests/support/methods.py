"""The masked reference with the methods that are more than a set of rows: raters, combined rows, merging, codebooks."""

from __future__ import annotations

from typing import Any

import torch
from support.reference import MaskedReference
from torch import Tensor

from autoprune.schedule import AttentionCriterion, CodebookCriterion, Stage


class MethodsReference(MaskedReference):
    """As `MaskedReference`, in plain loops; the decoder's input is seen at its first layer."""

    embeddings: Tensor
    prototypes: Tensor | None = None

    def _decide(self, k: int, layer: Any, args: Any, kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        before = self.dead[k].clone()
        super()._decide(k, layer, args, kwargs)
        if self.stages[k].merge:
            for b in range(len(hidden)):
                visual = [j for j in range(hidden.shape[1]) if self.visual[b, j] and not before[b, j]]
                self._merge(
                    hidden[b],
                    [j for j in visual if not self.dead[k][b, j]],
                    [j for j in visual if self.dead[k][b, j]],
                )

    @staticmethod
    def _merge(states: Tensor, kept: list[int], gone: list[int]) -> None:
        """In place: the reference changes what enters the layer."""
        groups = {j: [states[j].clone()] for j in kept}
        for j in gone:
            likeness = [float(torch.cosine_similarity(states[j], states[i], dim=0)) for i in kept]
            groups[kept[likeness.index(max(likeness))]].append(states[j].clone())
        for j, members in groups.items():
            states[j] = torch.stack(members).mean(0)

    def _pre(self, i: int) -> Any:
        inner = super()._pre(i)

        def pre(layer: Any, args: Any, kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            if i == 0 and hidden.shape[1] == self.visual.shape[1]:
                self.embeddings = hidden.clone()
            if any(stage.merge for stage in self.stages.values()) and i in self.stages:
                hidden = hidden.clone()
                args, kwargs = ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
            return inner(layer, args, kwargs)

        return pre

    def _scores(
        self, stage: Stage, b: int, alive: list[int], weights: Tensor | None, total: int
    ) -> dict[int, float] | None:
        criterion = stage.criterion
        if isinstance(criterion, CodebookCriterion):
            book = self.prototypes
            return {
                j: -max(float(torch.cosine_similarity(self.embeddings[b, j], p, dim=0)) for p in book) for j in alive
            }
        if not isinstance(criterion, AttentionCriterion):
            return super()._scores(stage, b, alive, weights, total)
        if criterion.combine:
            ranks = []
            for rows in (criterion.rows, criterion.combine):
                single = stage.model_copy(
                    update={"criterion": criterion.model_copy(update={"rows": rows, "combine": None})}
                )
                scores = self._scores(single, b, alive, weights, total)
                best = sorted(alive, key=lambda j, s=scores: (-s[j], j))
                ranks.append({j: best.index(j) for j in alive})
            # Grow both lists of the lowest until their intersection is what leaves: a token is in both lists when
            # the better of its two ranks is.
            return {j: -min(rank[j] for rank in ranks) for j in alive}
        if criterion.rows == "raters":
            return self._rated(criterion, b, alive, weights)
        return super()._scores(stage, b, alive, weights, total)

    def _rated(self, criterion: AttentionCriterion, b: int, alive: list[int], weights: Tensor) -> dict[int, float]:
        width = self.visual.shape[1]
        visual = [j for j in range(width) if self.visual[b, j]]
        words = [j for j in range(width) if self.prompt[b, j] and not self.visual[b, j] and j > visual[0]]
        match = torch.zeros(len(words))
        for j in visual:
            match += torch.stack([self.embeddings[b, j] @ self.embeddings[b, w] for w in words]).softmax(0)
        raters = [w for w, m in zip(words, match, strict=True) if m > match.mean()]
        over = weights[b, :, -width:, -width:].double().mean(0)
        return {j: sum(float(over[i, j]) for i in raters) for j in alive}
