"""Compact positions: survivors are renumbered without gaps, and later tokens follow on (VTW's ``reset``, PyramidDrop).

A token's place becomes its original place minus what was dropped before it, in this pass and in earlier ones. Each
pruned cache layer remembers its own count, because keys in it are rotated for its own numbering.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError

_WINDOWS = {"sliding_attention", "chunked_attention"}


class Renumberer:
    """Rotary embeddings for renumbered tokens, from the decoder's own rotary module.

    Args:
        decoder: The text model.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._rotary: Any = getattr(decoder, "rotary_emb", None)
        config: Any = decoder.config
        types = getattr(config, "layer_types", None)
        self._windows = _WINDOWS & set(types) if types else getattr(config, "sliding_window", None)

    def moved(
        self,
        kwargs: dict[str, Any],
        hidden: Tensor,
        back: Tensor,
        expect: Callable[[Tensor, PatchError], None] | None,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Rotary embeddings (cos, sin) and position ids [B, S] of a layer's tokens, each `back` places earlier.

        Args:
            kwargs: Arguments of the layer.
            hidden: Its hidden states.
            back: LongTensor[B, S or 1].
            expect: Takes a check whose outcome stands on the device: that the embeddings which the model made are those
                of its rotary module; None = not checked.

        Raises:
            PatchError: the positions of this model are not plain numbers that its rotary module turns into embeddings,
                or some of its layers see a window.
        """
        if self._windows:
            raise PatchError(
                "a window counts the places that tokens had in the whole prompt, so survivors cannot be renumbered",
                field="positions",
                value="compact",
                remedy="use positions 'keep'",
            )
        ids, given = kwargs.get("position_ids"), kwargs.get("position_embeddings")
        if not isinstance(ids, Tensor) or ids.ndim != 2 or not isinstance(given, tuple) or self._rotary is None:
            raise _refused()
        with torch.no_grad():
            if expect is not None:
                own = self._rotary(hidden, ids)
                if [t.shape for t in own] != [t.shape for t in given]:
                    raise _refused()
                for ours, theirs in zip(own, given, strict=True):
                    expect((ours != theirs).any(), _refused())
            places = ids - back.to(ids.device)
            return tuple(self._rotary(hidden, places)), places


def _refused() -> PatchError:
    return PatchError(
        "this model does not number its tokens in one plain row, so survivors cannot be renumbered",
        field="positions",
        value="compact",
        remedy="use positions 'keep'",
    )
