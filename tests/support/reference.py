"""An independent, slow reference: nothing is removed, dropped tokens are masked, decisions come from full maps.

It shares no code with autoprune.runtime: attention maps come from the eager kernel's own outputs, scores and selection
are plain loops.
"""

from __future__ import annotations

from inspect import signature
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from autoprune.schedule import AttentionCriterion, DiversityCriterion, RandomCriterion, Schedule, Stage


def layers_of(model: Any) -> Any:
    """The decoder layers of a model."""
    decoder = model.get_decoder()
    while not hasattr(decoder, "layers"):  # a language model with a head
        inner = decoder.get_decoder()
        decoder = decoder.model if inner is decoder else inner
    return decoder.layers


class MaskedReference:
    """Context manager: run the model, set to eager attention, inside it.

    Attributes:
        dead: BoolTensor[B, S] of dropped positions before each layer, after a prefill.
    """

    def __init__(self, model: Any, schedule: Schedule, visual: Tensor, valid: Tensor, answer: Tensor | None = None):
        self.model, self.stages = model, {s.layer: s for s in schedule.stages}
        self.visual, self.valid = visual.bool(), valid.bool()
        self.prompt = self.valid if answer is None else self.valid & ~answer
        self.visual = self.visual & self.prompt
        self.dead = {0: torch.zeros_like(self.visual)}
        self.maps: dict[int, Tensor] = {}
        self.handles: list[Any] = []
        self.before = model.config._attn_implementation

    def __enter__(self) -> MaskedReference:
        self.model.set_attn_implementation("eager")
        for i, layer in enumerate(layers_of(self.model)):
            self.handles.append(layer.register_forward_pre_hook(self._pre(i), with_kwargs=True))
            self.handles.append(layer.self_attn.register_forward_hook(self._keep_map(i)))
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()
        self.model.set_attn_implementation(self.before)

    def _keep_map(self, i: int) -> Any:
        return lambda module, args, output: self.maps.__setitem__(i, output[1])

    def _pre(self, i: int) -> Any:
        def pre(layer: Any, args: Any, kwargs: Any) -> Any:
            if len(args) > 1:  # some models hand their layers the mask by place
                names = list(signature(layer.forward).parameters)[1 : len(args)]
                args, kwargs = args[:1], {**dict(zip(names, args[1:], strict=True)), **kwargs}
            hidden = args[0] if args else kwargs["hidden_states"]
            prefill = hidden.shape[1] == self.visual.shape[1]
            if prefill:
                self.dead[i] = self.dead[i - 1].clone() if i else torch.zeros_like(self.visual)
                if i in self.stages:
                    self._decide(i, layer, args, kwargs)
            kwargs = dict(kwargs)
            kwargs["attention_mask"] = self._masked(kwargs["attention_mask"], i, kwargs.get("past_key_values"), hidden)
            return args, kwargs

        return pre

    def _masked(self, mask: Tensor, i: int, cache: Any, hidden: Tensor) -> Tensor:
        offset = 0
        layer = cache.layers[i] if cache is not None and i < len(cache.layers) else None
        if layer is not None and getattr(layer, "is_sliding", False):
            offset = layer.get_mask_sizes(hidden.shape[1])[1]
        width = mask.shape[-1]
        dead = torch.zeros(self.visual.shape[0], offset + width, dtype=torch.bool)
        n = min(dead.shape[1], self.visual.shape[1])
        dead[:, :n] = self.dead[i][:, :n]
        return mask.masked_fill(dead[:, None, None, offset:], torch.finfo(mask.dtype).min)

    def _decide(self, k: int, layer: Any, args: Any, kwargs: dict[str, Any]) -> None:
        stage, hidden = self.stages[k], args[0] if args else kwargs["hidden_states"]
        weights = None
        if isinstance(stage.criterion, AttentionCriterion) and stage.selects:
            weights = self.maps[k - 1] if stage.criterion.at == "previous" else self._current(k, layer, args, kwargs)
        for b in range(self.visual.shape[0]):
            alive = [j for j in range(self.visual.shape[1]) if self.visual[b, j] and not self.dead[k][b, j]]
            keep = self._keep(stage, b, alive, weights, hidden)
            for j in alive:
                if j not in keep:
                    self.dead[k][b, j] = True

    def _current(self, k: int, layer: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        """The layer runs once more than it would, without cache; its attention's map is kept as in any run."""
        mask = self._masked(kwargs["attention_mask"], k, None, args[0] if args else kwargs["hidden_states"])
        with torch.no_grad():
            layer.forward(*args, **{**kwargs, "attention_mask": mask, "past_key_values": None})
        return self.maps[k]

    def _keep(self, stage: Stage, b: int, alive: list[int], weights: Tensor | None, hidden: Tensor) -> set[int]:
        total = int(self.visual[b].sum())
        if stage.keep.ratio == 0 or not alive:
            return set()
        if stage.keep.ratio == 1:
            return set(alive)
        scores = self._scores(stage, b, alive, weights, total)
        if scores is None:
            return self._spread(stage, b, alive, total, hidden)
        best = sorted(alive, key=lambda j: (-scores[j], j))
        if stage.keep.mass is not None:
            mass, kept, whole = 0.0, [], sum(scores[j] for j in alive)
            for j in best:
                kept.append(j)
                mass += scores[j]
                if mass >= stage.keep.mass * whole:
                    break
            return set(kept)
        if stage.keep.threshold is not None:
            return {j for j in alive if scores[j] >= stage.keep.threshold} or {best[0]}
        return set(best[: self._count(stage, total, len(alive))])

    @staticmethod
    def _count(stage: Stage, total: int, alive: int) -> int:
        wanted = stage.keep.count if stage.keep.count is not None else max(1, round(stage.keep.ratio * total))
        return min(wanted, alive)

    def _scores(
        self, stage: Stage, b: int, alive: list[int], weights: Tensor | None, total: int
    ) -> dict[int, float] | None:
        criterion = stage.criterion
        if isinstance(criterion, RandomCriterion):
            draw = torch.rand(total, generator=torch.Generator().manual_seed(criterion.seed)).tolist()
            visual = [j for j in range(self.visual.shape[1]) if self.visual[b, j]]
            return {j: draw[visual.index(j)] for j in alive}
        if not isinstance(criterion, AttentionCriterion):
            return None
        prompt = [i for i in range(self.visual.shape[1]) if self.prompt[b, i] and not self.dead[stage.layer][b, i]]
        first = min(j for j in range(self.visual.shape[1]) if self.visual[b, j])
        rows = {
            "last": prompt[-1:],
            "text": [i for i in prompt if not self.visual[b, i] and i > first],
            "visual": [i for i in prompt if self.visual[b, i]],
            "all": prompt,
        }[criterion.rows]
        width = self.visual.shape[1]
        heads = weights[b, :, -width:, -width:].detach().double()
        over = {"mean": heads.mean(0), "max": heads.amax(0), "sum": heads.sum(0)}[criterion.heads].tolist()
        scores = {}
        for j in alive:
            column = [over[i][j] for i in rows]
            value = sum(column)
            if criterion.normalize == "causal":
                value /= max(1, sum(1 for i in rows if over[i][j] > 0))  # those that may see column j
            elif criterion.reduce == "mean":
                value /= len(rows)
            scores[j] = value
        return scores

    def _spread(self, stage: Stage, b: int, alive: list[int], total: int, hidden: Tensor) -> set[int]:
        count = self._count(stage, total, len(alive))
        if not isinstance(stage.criterion, DiversityCriterion):  # uniform
            return {alive[int((j + 0.5) * len(alive) / count)] for j in range(count)}
        unit = torch.nn.functional.normalize(hidden[b, alive].float(), dim=1)
        distance = 1 - unit @ unit.T
        apart = distance.clone().fill_diagonal_(9.0)
        chosen = [int(apart.min(1).values.argmax())]
        while len(chosen) < count:
            rest = [i for i in range(len(alive)) if i not in chosen]
            chosen.append(max(rest, key=lambda i: float(distance[i, chosen].min())))
        return {alive[i] for i in chosen}
