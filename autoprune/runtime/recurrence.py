"""Recurrent layers of forced answers: what their mixers read, from which the state behind any token is made again.

A recurrent state cannot be cut. But what a mixer reads before a token does not depend on what follows, so that its
state there is that of a run over these inputs alone; the other parts of the layer need not run for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from autoprune.runtime.decoder import decoder_layers
from autoprune.runtime.families import family_of
from autoprune.runtime.replay import hooked
from autoprune.runtime.survivors import take


@dataclass(frozen=True)
class MixerInputs:
    """What the mixer of one recurrent layer read in a pass.

    Attributes:
        mixer: The module.
        cache_name: Name of its argument for the cache.
        hidden: [B, n, d].
        mask: BoolTensor[B, n], False at padding and fillers; None = there are none.
        columns: LongTensor[B, n], logical columns of the tokens; None = all columns of the pass.
    """

    mixer: Any
    cache_name: str
    hidden: Tensor
    mask: Tensor | None
    columns: Tensor | None

    def state(self, config: Any, rows: Tensor, ends: Tensor) -> Any:
        """The cache layer of some rows as it was before a column of each.

        Args:
            config: Of the text model.
            rows: LongTensor[R].
            ends: LongTensor[R], logical columns.
        """
        device = self.hidden.device
        rows, ends = rows.to(device), ends.to(device)
        hidden, n = self.hidden[rows], self.hidden.shape[1]
        columns = torch.arange(n, device=device)[None] if self.columns is None else self.columns.to(device)[rows]
        keep = (columns < ends[:, None]).expand(len(rows), -1)
        keep = keep if self.mask is None else keep & self.mask.to(device)[rows].bool()
        most = int(keep.sum(1).max())
        # Tokens in order behind left padding, which leaves the state empty.
        index = keep.to(torch.uint8).argsort(dim=1, stable=True)[:, n - most :]
        real, cache = keep.gather(1, index), DynamicCache(config=config)
        mask = None if bool(real.all()) else real
        with torch.no_grad():
            self.mixer(hidden_states=take(hidden, index, 1), attention_mask=mask, **{self.cache_name: cache})
        return cache.layers[self.mixer.layer_idx]


@contextmanager
def mixer_inputs(decoder: nn.Module, columns: Callable[[], Tensor | None]) -> Iterator[dict[int, MixerInputs]]:
    """What the mixers of the recurrent layers read, by layer; empty for a decoder that has none.

    Args:
        decoder: The text model.
        columns: Gives, as a layer runs, the columns [B, n] of the tokens that it sees; None = all.
    """
    found: dict[int, MixerInputs] = {}
    parts: Any = decoder
    names = family_of(parts.config).recurrent

    def note(mixer: Any, args: tuple[Any, ...], call: dict[str, Any]) -> None:
        cache_name = next(name for name, value in call.items() if isinstance(value, Cache))
        hidden = call["hidden_states"]
        found[mixer.layer_idx] = MixerInputs(mixer, cache_name, hidden, call.get("attention_mask"), columns())

    with ExitStack() as stack:
        for layer in decoder_layers(decoder):
            for mixer in (getattr(layer, name) for name in names if hasattr(layer, name)):
                stack.enter_context(hooked(mixer, before=note))
        yield found
