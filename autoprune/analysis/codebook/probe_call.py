"""The recorded call of a text model, cut down to some of its columns for a batch of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import ModelError

_OWN = ("use_cache", "cache_position", "input_ids", "inputs_embeds", "attention_mask")
_Filled = Sequence[tuple[Tensor, str]]


class ProbeCall:
    """Arguments of the dense call of a text model, and those of calls on parts of its columns.

    Attributes:
        causal: Whether every column sees only those before it: true unless the call brings masks of its own.
    """

    def __init__(self, call: Mapping[str, Any], visual: Tensor, pad: Tensor | None) -> None:
        self._call, self._visual = call, visual
        self._fills = {"mean": call["inputs_embeds"][0, visual].mean(0)}
        if pad is not None:
            self._fills["pad"] = pad
        self._rank = visual.long().cumsum(0) - 1
        mask = call.get("attention_mask")
        self.causal = mask is None or (isinstance(mask, Tensor) and mask.ndim == 2)

    def columns(self, rows: Sequence[Tensor], filled: _Filled, start: int) -> dict[str, Any]:
        """Arguments of the text model for a left-padded batch, after a cache of the columns before `start`.

        Args:
            rows: For each probe, the columns from `start` on that it keeps, ascending.
            filled: For each probe, BoolTensor[n_visual], the visual tokens that are replaced, and by what.
            start: Columns that are cached.

        Raises:
            ModelError: the call has an argument whose columns are not known.
        """
        width = max(len(row) for row in rows)
        index = torch.full((len(rows), width), start, device=self._visual.device)
        real = torch.zeros_like(index, dtype=torch.bool)
        for b, row in enumerate(rows):
            index[b, width - len(row) :] = row
            real[b, width - len(row) :] = True
        seen = self._visual[index] & real
        replaced = torch.stack([which for which, _ in filled])
        replaced = replaced.gather(1, self._rank[index].clamp_min(0)) & seen
        kinds = [kind for _, kind in filled]
        made: dict[str, Any] = {}
        for name, value in self._call.items():
            if name not in _OWN:
                made[name] = self._argument(name, value, index, seen, replaced, kinds)
        made["inputs_embeds"] = _filled(self._call["inputs_embeds"][0][index], self._fills, replaced, kinds)
        made["attention_mask"] = self._masks(self._call.get("attention_mask"), index, real, start)
        if made.get("position_ids") is None:
            made["position_ids"] = index
        return made

    def _argument(
        self, name: str, value: Any, index: Tensor, seen: Tensor, replaced: Tensor, kinds: Sequence[str]
    ) -> Any:
        length = len(self._visual)
        if isinstance(value, (list, tuple)) and all(isinstance(part, Tensor) for part in value):
            # What deeper layers add to the visual tokens (deepstack), one row for each.
            return [self._added(name, part, index, seen, replaced, kinds) for part in value]
        if not isinstance(value, Tensor):
            return value
        if name == "position_ids" and value.shape[-1] == length:
            return value[..., 0, :][..., index]
        if value.shape[:2] == (1, length):
            cut = value[0][index]
            return cut & seen if name == "visual_pos_masks" else cut
        raise _unknown(name)

    def _added(
        self, name: str, value: Tensor, index: Tensor, seen: Tensor, replaced: Tensor, kinds: Sequence[str]
    ) -> Tensor:
        if len(value) != int(self._visual.sum()):
            raise _unknown(name)
        every = value[self._rank[index].clamp_min(0)]
        return _filled(every, {"mean": value.mean(0), "pad": torch.zeros_like(value[0])}, replaced, kinds)[seen]

    def _masks(self, mask: Any, index: Tensor, real: Tensor, start: int) -> Any:
        if isinstance(mask, dict):
            length = len(self._visual)
            plain = torch.ones(1, 1, length, length, dtype=torch.bool, device=index.device).tril()
            filled = {name: plain if part is None else part for name, part in mask.items()}
            return {name: self._masks(part, index, real, start) for name, part in filled.items()}
        if isinstance(mask, Tensor) and mask.ndim == 4:
            part = mask[0][:, index[:, :, None], index[:, None, :]].transpose(0, 1)
            hidden = False if part.dtype == torch.bool else torch.finfo(part.dtype).min
            part = part.masked_fill(~real[:, None, None, :], hidden)
            # Padding sees itself, so that no row is empty.
            alone = torch.diag_embed(~real)[:, None]
            return part.masked_fill(alone, True if part.dtype == torch.bool else 0.0)
        return torch.cat([torch.ones(len(index), start, dtype=torch.long, device=index.device), real.long()], 1)


def _filled(values: Tensor, fills: Mapping[str, Tensor], replaced: Tensor, kinds: Sequence[str]) -> Tensor:
    """Values [B, m, d] with those of replaced tokens filled."""
    chosen = torch.stack([fills[kind].to(values) for kind in kinds])
    return torch.where(replaced[..., None], chosen[:, None], values)


def _unknown(name: str) -> ModelError:
    return ModelError(
        f"its text model is called with {name!r}, of which single tokens cannot be taken",
        field="model",
        remedy="choose another criterion: diversity needs no codebook",
    )
