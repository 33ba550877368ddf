"""The masked reference: nothing is removed, dropped tokens are masked out of every attention instead.

The reference shares nothing with the pruning but the places of modules: no gathering, no cache of another kind, no
mask of another size. Masks are the model's own with the dropped columns closed. A recurrent layer has no columns to
close: there, and only there, the survivors are handed to the mixer alone, for one row without padding. From the full
attention maps of the reference follows what stages that choose by attention should keep: an independent judge of the
runtime's few rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoprune.doctor.runs import kernel
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.families import family_of
from autoprune.runtime.replay import hooked
from autoprune.schedule import AttentionCriterion, Keep, Schedule, Stage


class MaskedReference:
    """Context manager: inside it the model, run on this one prompt, sees only the survivors.

    Args:
        model: The model.
        attention: The attention implementation to run with; only eager gives `scores`.
        schedule: The schedule.
        visual: BoolTensor[S], visual tokens of the prompt.
        kept: For each stage's layer, LongTensor of the positions that are left.

    Attributes:
        alive: For each layer, BoolTensor[S].
        scores: For each stage with a `map_criterion`, FloatTensor[S] from full maps.
    """

    def __init__(
        self, model: Any, attention: str, schedule: Schedule, visual: Tensor, kept: Mapping[int, Tensor]
    ) -> None:
        self.scores: dict[int, Tensor] = {}
        self._model, self._attention, self._visual = model, attention, visual
        self._decoder: Any = find_decoder(model)
        self._layers = decoder_layers(self._decoder)
        self._compact = schedule.positions == "compact"
        chosen = {s.layer: map_criterion(s) for s in schedule.stages}
        self._criteria = {k: criterion for k, criterion in chosen.items() if criterion}
        self._merging = {s.layer for s in schedule.stages if s.merge}
        self.alive: list[Tensor] = []
        alive = torch.ones_like(visual)
        for i in range(len(self._layers)):
            if i in kept:
                alive = torch.zeros_like(visual)
                alive[kept[i].to(visual.device)] = True
            self.alive.append(alive)
        self._undo = ExitStack()
        self._ahead: Tensor | None = None

    def __enter__(self) -> Self:
        self._undo.enter_context(kernel(self._model, self._attention))
        recurrent = family_of(self._decoder.config).recurrent
        for i, layer in enumerate(self._layers):
            self._hook(layer, before=self._before(i))
            attention = attention_of(self._decoder, layer)
            if attention is not None:
                self._hook(attention, after=self._read(i))
            for name in recurrent:
                if hasattr(layer, name):
                    self._remove_in(getattr(layer, name), self.alive[i])
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def _hook(self, module: nn.Module, before: Any = None, after: Any = None) -> None:
        self._undo.enter_context(hooked(module, before=before, after=after))

    def _before(self, i: int) -> Any:
        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._ahead is not None:
                return None
            hidden: Tensor = args[0] if args else kwargs["hidden_states"]
            prefill, criterion = hidden.shape[1] == len(self._visual), self._criteria.get(i)
            if prefill and criterion is not None and criterion.at == "current":
                self._look_ahead(i, layer, hidden, args, kwargs)
            if prefill and i in self._merging:
                hidden = self._merged(i, hidden)
                args, kwargs = (hidden, *args[1:]), {k: v for k, v in kwargs.items() if k != "hidden_states"}
            if attention_of(self._decoder, layer) is not None:
                kwargs = {**kwargs, "attention_mask": self._closed(i, hidden, kwargs, self.alive[i])}
            return args, self._renumbered(hidden, kwargs, self.alive[i])

        return before

    def _merged(self, i: int, hidden: Tensor) -> Tensor:
        """Each kept visual token as the mean of itself and the tokens dropped here that are most like it."""
        stay = self._visual & self.alive[i]
        gone = self._visual & self._alive_before(i) & ~stay
        own, lost = hidden[0, stay].float(), hidden[0, gone].float()
        alike = torch.nn.functional.normalize(own, dim=1) @ torch.nn.functional.normalize(lost, dim=1).T
        share = torch.zeros_like(alike).scatter_(0, alike.argmax(0, keepdim=True), 1.0)
        new = hidden.clone()
        new[0, stay] = ((own + share @ lost) / (1 + share.sum(1, keepdim=True))).to(hidden.dtype)
        return new

    def _alive_before(self, i: int) -> Tensor:
        return self.alive[i - 1] if i else torch.ones_like(self._visual)

    def _closed(self, i: int, hidden: Tensor, kwargs: dict[str, Any], alive: Tensor) -> Tensor:
        """The model's own mask with the columns of dropped tokens closed."""
        base, cache, new = kwargs["attention_mask"], kwargs.get("past_key_values"), hidden.shape[1]
        layer: Any = cache.layers[i] if cache is not None and i < len(cache.layers) else None
        width, offset = layer.get_mask_sizes(new) if layer is not None else (new, 0)
        if base is None:  # a kernel that needs no mask where nothing but the future is hidden
            base = torch.ones(1, 1, new, width, dtype=torch.bool, device=hidden.device).tril(width - new)
        dropped = torch.zeros(offset + base.shape[-1], dtype=torch.bool, device=base.device)
        known = min(len(dropped), len(alive))
        dropped[:known] = ~alive[:known]
        shut: float | bool = False if base.dtype == torch.bool else torch.finfo(base.dtype).min
        closed: Tensor = base.masked_fill(dropped[offset:], shut)
        return closed

    def _renumbered(self, hidden: Tensor, kwargs: dict[str, Any], alive: Tensor) -> dict[str, Any]:
        """With compact positions, every token as many places earlier as tokens before it were dropped."""
        if not self._compact or bool(alive.all()):
            return kwargs
        gone = (~alive).cumsum(0)
        places = kwargs["position_ids"] - (gone if hidden.shape[1] == len(alive) else gone[-1:])
        return {**kwargs, "position_ids": places, "position_embeddings": self._decoder.rotary_emb(hidden, places)}

    def _look_ahead(
        self, i: int, layer: nn.Module, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Run this layer before its own stage drops anything, for its attention map."""
        before = self._alive_before(i)
        rest = {n: v for n, v in kwargs.items() if n not in ("hidden_states", "past_key_values", "use_cache")}
        rest["attention_mask"] = self._closed(i, hidden, kwargs, before)
        self._ahead = before
        layer(hidden, *args[1:], **self._renumbered(hidden, rest, before))
        self._ahead = None

    def _read(self, i: int) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            stage, alive = (i + 1, self.alive[i]) if self._ahead is None else (i, self._ahead)
            criterion, weights = self._criteria.get(stage), output[1]
            if criterion is None or weights is None or weights.shape[-2] != len(alive):
                return
            if (criterion.at == "current") == (self._ahead is not None):
                rows = voters(criterion, self._visual, alive)
                allowed = _open(kwargs["attention_mask"])[:, : len(alive)]
                self.scores[stage] = received(weights[0, ..., : len(alive)], allowed, rows, criterion)

        return after

    def _remove_in(self, mixer: nn.Module, alive: Tensor) -> None:
        kept = alive.nonzero().flatten()

        def cut(value: Any) -> Any:
            whole = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == len(alive)
            return value.index_select(1, kept.to(value.device)) if whole else value

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return tuple(cut(a) for a in args), {name: cut(value) for name, value in kwargs.items()}

        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            mixed = output[0] if isinstance(output, tuple) else output
            if mixed.shape[1] != len(kept) or len(kept) == 1:
                return None
            full = mixed.new_zeros(mixed.shape[0], len(alive), mixed.shape[2])
            full[:, kept.to(full.device)] = mixed
            return (full, *output[1:]) if isinstance(output, tuple) else full

        self._hook(mixer, before, after)


def _open(mask: Tensor) -> Tensor:
    """BoolTensor[S, K]: what a mask of one row lets through."""
    own = mask[0, 0]
    return own if own.dtype == torch.bool else own > torch.finfo(own.dtype).min / 2


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
    """Distance of the worst score from the best one, as a share of the best."""
    best, worst = float(scores[candidates].max()), float(scores[candidates].min())
    return (best - worst) / best if best > 0 else 0.0


def misjudged(scores: Tensor, candidates: Tensor, kept: Tensor, keep: Keep) -> float:
    """Contradiction between a decision and the scores, as a share of the best score; 0 if it does not.

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
