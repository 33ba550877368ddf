"""Withdrawal before every layer at once, on top of one recorded dense pass.

After withdrawal before layer k only text is left, and of the text only what follows the first visual token differs from
the dense pass. So each decoder layer i runs on a stack of i + 1 short sequences: the tails of the candidates k = 0..i.
The keys and values of the tokens before the image are those of the dense pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.analysis.withdrawal.dense import DenseRun, cut
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.masks import pruned_mask

_POSITIONS = ("position_embeddings", "position_ids")


def withdrawn_outputs(model: nn.Module, run: DenseRun) -> Tensor:
    """Outputs [L, T, d] of the last layer where the answer is predicted, after withdrawal before each layer."""
    tails = Tails(model, run)
    stack = run.layers[0].inputs[:, :0]
    with torch.no_grad():
        for i, calls in enumerate(run.layers):
            entering = calls.inputs[:, tails.rows]
            stack = torch.cat([stack.to(entering.device), entering]) if i else entering
            stack = torch.cat([tails.run(i, part, tails.before) for part in torch.split(stack, tails.at_once)])
    return stack[:, -len(run.lengths) :]


def dense_again(model: nn.Module, run: DenseRun) -> Tensor:
    """Outputs [1, T, d] of the last layer in the dense pass, computed as the tails are, but with nothing withdrawn.

    In exact arithmetic these are `run.outputs`; the difference is what kernels of another shape round differently. A
    recurrent layer, which has no keys of single tokens, returns its dense output.
    """
    tails = Tails(model, run)
    stack = run.layers[0].inputs[:, tails.rows]
    with torch.no_grad():
        for i in range(len(run.layers)):
            if not tails.is_recurrent(i):
                stack = tails.run(i, stack, tails.others)
            elif i + 1 < len(run.layers):
                stack = run.layers[i + 1].inputs[:, tails.rows]
            else:
                return run.outputs
    return stack[:, -len(run.lengths) :]


class Tails:
    """Text tokens after the first visual one, and calls of single layers on them.

    Attributes:
        rows: LongTensor[m], their indices among the text tokens.
        before: LongTensor, columns of the text before the image, whose dense keys are reused.
        others: LongTensor, columns of the prompt outside the tails: the text before the image, and the image.
        at_once: Number of tails in one call, so that no call holds more tokens than the dense pass.
    """

    def __init__(self, model: nn.Module, run: DenseRun) -> None:
        decoder = find_decoder(model)
        self._run, self._layers = run, decoder_layers(decoder)
        self._recurrent = [attention_of(decoder, layer) is None for layer in self._layers]
        self._masks = _Masks(run)
        first = int(run.visual.to(torch.uint8).argmax())
        before = run.text[run.text < first]
        # Without a causal mask, or with a state that runs through all tokens, no token keeps what it had.
        if any(self._recurrent) or self._masks.look_ahead(before, first):
            before = before[:0]
        self.before = before
        self.rows = torch.arange(len(before), len(run.text), device=before.device)
        self._columns = run.text[self.rows]
        visual = run.visual.nonzero()[:, 0]
        self.others = torch.cat([before, visual]).sort().values
        self.at_once = max(1, sum(run.lengths) // len(run.text))

    def is_recurrent(self, i: int) -> bool:
        """Whether layer `i` has a state instead of attention."""
        return self._recurrent[i]

    def run(self, i: int, stack: Tensor, prefix: Tensor) -> Tensor:
        """Layer `i` on a stack [B, m, d] of tails, after the keys and values of the columns `prefix`."""
        calls, rows = self._run.layers[i], self.rows[None]
        call = dict(calls.arguments)
        for name, axis in calls.axes.items():
            value = cut(call[name], rows, axis)
            # Positions broadcast over the stack; whatever else runs along the tokens may be an index into them.
            call[name] = value if name in _POSITIONS else value.expand(len(stack), *value.shape[1:])
        if self._recurrent[i]:
            call |= {"attention_mask": None, "past_key_values": None}
        else:
            cached = self._run.cache.layers[i]
            keys = PrefixKeys(*(t.index_select(2, prefix.to(t.device)) for t in (cached.keys, cached.values)))
            call |= {"attention_mask": self._masks.cut(i, self._columns, prefix), "past_key_values": keys}
        output = self._layers[i](stack, **call)
        result: Tensor = output[0] if self._run.as_tuple else output
        return result


class PrefixKeys:
    """A cache of one layer that puts the keys and values of earlier tokens in front of each tail's own."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, before + m, d] of this call."""
        batch = keys.shape[0]
        before = [t.expand(batch, -1, -1, -1) for t in (self._keys, self._values)]
        return torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)

    def get_seq_length(self, *_: Any) -> int:
        """Tokens before the tails."""
        return int(self._keys.shape[2])


@dataclass
class _Masks:
    """Attention masks of the tails, cut out of those of the dense calls, once for all layers that share a mask."""

    run: DenseRun
    known: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def look_ahead(self, before: Tensor, first: int) -> bool:
        """Whether a token before the image attends, in some layer, to the image or to what follows it."""
        bases = {id(calls.masks[0]): calls.masks[0] for calls in self.run.layers}
        for base in bases.values():
            if base is None or base.ndim != 4 or not len(before):
                continue
            block = base[0][:, before.to(base.device), first:]
            if bool((block if block.dtype == torch.bool else block > torch.finfo(block.dtype).min / 2).any()):
                return True
        return False

    def cut(self, i: int, tail: Tensor, prefix: Tensor) -> Tensor:
        """Mask [1, 1 or H, m, prefix + m] of the tails in layer `i`."""
        bases = self.run.layers[i].masks
        key = (*map(id, bases), id(prefix))
        if key not in self.known:
            columns = torch.cat([prefix, tail])[None]
            filled = torch.ones_like(columns, dtype=torch.bool)
            parts, start = [], 0
            for base, length in zip(bases, self.run.lengths, strict=True):
                own = tail[(tail >= start) & (tail < start + length)][None]
                part = pruned_mask(base, own - start, own, columns, filled, False, 0)
                assert part is not None  # that takes `all_filled`
                parts.append(part)
                start += length
            self.known[key] = torch.cat(parts, 2)
        return self.known[key]
