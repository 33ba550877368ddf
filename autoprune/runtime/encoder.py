"""Attention inside the vision tower, carried over to visual tokens (VisionZip, CVPR 2025).

Which patches a visual token is made of differs from family to family: pixel shuffles, merged windows, tiles, newlines,
cropped padding. It is read off the model itself: a token is made of the patches that its gradient reaches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from autoprune.errors import PatchError
from autoprune.runtime.criteria.attention import attention_received
from autoprune.runtime.tap import SeenAttention, tapped
from autoprune.schedule import AttentionCriterion

_RECEIVED = AttentionCriterion(rows="all", reduce="mean")
_CLASS_TOKENS = ("class_embedding", "cls_token")
_SHAPES_KEPT = 64
_TOWER_OPTIONS = ("vision_", "interpolate_pos_encoding")
_TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids", "labels", "token_type_ids", "mm_token_type_ids")


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """Ends a pass where the decoder would start."""


@dataclass(frozen=True)
class Patches:
    """Patches of one batch of images, and the visual tokens that they feed.

    Attributes:
        layer: The tower layer whose output the projector takes.
        has_class: Whether its first position is a class token.
        place: LongTensor[rows], for each of its positions the visual token it feeds, counted through the batch; -1 for
            none.
        used: LongTensor[u], positions that feed a token.
        n_tokens: Visual tokens up to the last one that is fed.
    """

    layer: nn.Module
    has_class: bool
    place: Tensor

    @cached_property
    def used(self) -> Tensor:
        """As the attribute; read back once for images of these shapes."""
        return (self.place >= 0).nonzero()[:, 0]

    @cached_property
    def n_tokens(self) -> int:
        """As the attribute; read back once for images of these shapes."""
        return int(self.place.max()) + 1


class Encoder:
    """Scores of visual tokens by the attention of the vision tower.

    Images of new shapes are encoded twice, the first time to see where their patches go.

    Args:
        model: The outer model.
        decoder: Its text model.
    """

    def __init__(self, model: nn.Module, decoder: nn.Module) -> None:
        self._model, self._decoder = model, decoder
        self._known: dict[Any, Patches] = {}

    def patches(self, call: Mapping[str, Any]) -> tuple[Any, Patches | None]:
        """The key of a call's images, and where their patches go if images of these shapes were seen."""
        key = tuple((n, _layout(v)) for n, v in sorted(call.items()) if _lays_out(n, v))
        return key, self._known.get(key)

    def probe(self, call: Mapping[str, Any]) -> Patches:
        """Run the model up to its decoder, and follow gradients back from there to the tower.

        Returns:
            Patches whose `place` are flat positions in [B, S].

        Raises:
            PatchError: the model has no vision tower with layers, or its tokens mix patches.
        """
        outputs: list[tuple[nn.Module, Tensor]] = []
        with torch.inference_mode(False), torch.enable_grad():
            embeds = self._embeds(call, outputs)
            direction = torch.randn(embeds.shape[-1], generator=torch.Generator().manual_seed(0)).to(embeds)
            value = embeds @ direction
            used = [pair for pair in outputs if bool(_reaches(value.sum(), pair[1]).any())]
            if not used:
                raise _refused("no layer of a vision tower was found behind its visual tokens")
            layer, hidden = used[-1]
            flat = torch.arange(1, value.numel() + 1, device=value.device).view_as(value)
            place = torch.zeros(hidden.shape[:-1], dtype=torch.long, device=hidden.device)
            for bit in range(int(value.numel()).bit_length()):
                has = (flat >> bit & 1).bool()
                on, off = (_reaches(value[side].sum(), hidden) for side in (has, ~has))
                if bool((on & off).any()):
                    raise _refused("a patch of its vision tower feeds several visual tokens")
                place |= on.long() << bit
        has_token = any(hasattr(m, name) for m in self._model.modules() for name in _CLASS_TOKENS)
        has_class = has_token and place.ndim == 2 and not bool(place[:, 0].any())
        return Patches(layer, has_class, place.flatten() - 1)

    def _embeds(self, call: Mapping[str, Any], outputs: list[tuple[nn.Module, Tensor]]) -> Tensor:
        found: list[Tensor] = []
        thread = threading.get_ident()

        def enter(layer: nn.Module, args: Any) -> None:
            # What comes before the output of a layer is not asked for, and a graph of it would fill the memory.
            if threading.get_ident() == thread:
                torch.set_grad_enabled(False)

        def leave(layer: nn.Module, args: Any, output: Any) -> None:
            if threading.get_ident() == thread:
                torch.set_grad_enabled(True)
                hidden = output[0] if isinstance(output, tuple) else output
                outputs.append((layer, hidden.requires_grad_()))

        def stop(decoder: nn.Module, args: Any, kwargs: Any) -> None:
            if threading.get_ident() == thread:
                found.append(kwargs.get("inputs_embeds"))
                raise _Stop

        inside = set(self._decoder.modules())
        handles = [self._decoder.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)]
        for stack in self._model.modules():
            if isinstance(stack, nn.ModuleList) and stack not in inside:
                for layer in filter(_attentions, stack):
                    handles.append(layer.register_forward_pre_hook(enter))
                    handles.append(layer.register_forward_hook(leave))
        try:
            self._model.forward(**{name: _for_gradients(value) for name, value in call.items()})
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if not outputs or not found or found[0] is None or not found[0].requires_grad:
            raise _refused("no layer of a vision tower was found behind its visual tokens")
        return found[0]

    @contextmanager
    def observing(self, patches: Patches) -> Iterator[list[Tensor]]:
        """Collect scores [images, positions] of each attention call of the layer while images are encoded."""
        scores: list[Tensor] = []

        def observe(seen: SeenAttention) -> None:
            query, key, mask, softmax = seen
            rows = torch.ones(query.shape[0], query.shape[2], dtype=torch.bool, device=query.device)
            rows[:, 1:] &= not patches.has_class
            with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
                most = 1 if patches.has_class else rows.shape[1]
                free = softmax._replace(causal=False)
                scores.append(attention_received(query, key, rows, mask, free, _RECEIVED, most))

        with ExitStack() as taps:
            for attention in _attentions(patches.layer):
                taps.enter_context(tapped(attention, observe))
            yield scores

    def remember(self, key: Any, patches: Patches, visual: Tensor) -> Patches:
        """The same patches by visual token instead of by flat position, kept for images of the same shapes."""
        ordinal = torch.where(visual.flatten(), visual.flatten().cumsum(0) - 1, -1).to(patches.place.device)
        place = torch.where(patches.place >= 0, ordinal[patches.place.clamp(min=0)], -1)
        if bool((place < 0).logical_and(patches.place >= 0).any()):
            raise _refused("patches feed positions that are not visual tokens")
        while len(self._known) >= _SHAPES_KEPT:
            del self._known[next(iter(self._known))]
        self._known[key] = Patches(patches.layer, patches.has_class, place)
        return self._known[key]


class EncoderPass:
    """The tower's attention in one call of the model, from before its images are encoded.

    Args:
        encoder: Of the model.
        call: Arguments of the call, by name.
    """

    def __init__(self, encoder: Encoder, call: Mapping[str, Any]) -> None:
        self._encoder, self._taps = encoder, ExitStack()
        prompt = call.get("input_ids")
        self._samples = len(call["inputs_embeds"] if prompt is None else prompt)
        self._key, known = encoder.patches(call)
        self._is_known = known is not None
        self._patches = known or encoder.probe(call)
        self._scores = self._taps.enter_context(encoder.observing(self._patches))

    def scores(self, visual: Tensor, n_visual: Sequence[int]) -> Tensor:
        """FloatTensor[B, S], scores of the visual tokens BoolTensor[B, S]; see `token_scores`.

        Images are encoded before samples are repeated, for beams or several answers.
        """
        copies = len(visual) // self._samples
        visual = visual[::copies]
        if not self._is_known:
            self._patches, self._is_known = self._encoder.remember(self._key, self._patches, visual), True
        found = token_scores(self._patches, self._scores, visual, sum(n_visual[::copies]))
        return found.to(visual.device).repeat_interleave(copies, 0)

    def close(self) -> None:
        """Stop observing the tower."""
        self._taps.close()


def tower_scores(watched: EncoderPass | None, visual: Tensor, n_visual: Sequence[int]) -> Tensor:
    """FloatTensor[B, S]: attention received in the vision tower, as `EncoderPass.scores` gives it.

    Raises:
        PatchError: no pass of the tower was watched in this call.
    """
    if watched is None:
        raise PatchError(
            "the vision tower did not run in this call, so that its attention is not known",
            field="criterion.name",
            value="encoder",
            remedy="call the model with images, not with embeddings, or use attention or diversity",
        )
    return watched.scores(visual, n_visual)


def token_scores(patches: Patches, scores: list[Tensor], visual: Tensor, n_visual: int) -> Tensor:
    """Scores of visual tokens: the mean over the patches that they are made of.

    Args:
        patches: With `place` by visual token.
        scores: What the tower's attention calls gave.
        visual: BoolTensor[B, S].
        n_visual: Visual tokens of the batch.

    Returns:
        FloatTensor[B, S]. A token without patches, such as a newline, takes the mean of those beside it that have some.

    Raises:
        PatchError: the tower's attention was not seen, or not position by position.
    """
    visual = visual.to(patches.place.device)  # the tower may stand on another device than the text model
    if sum(s.numel() for s in scores) != len(patches.place):
        raise _refused("the attention of its vision tower could not be observed")
    if patches.n_tokens > n_visual:
        raise _refused("not all of its visual tokens stand in the prompt")
    of_patches = torch.cat([s.flatten() for s in scores]).to(patches.place.device)[patches.used]
    token = patches.place[patches.used]
    total = torch.zeros(n_visual, device=of_patches.device).index_add_(0, token, of_patches)
    members = torch.zeros_like(total).index_add_(0, token, torch.ones_like(of_patches))
    ordinal = (visual.flatten().cumsum(0) - 1).clamp(min=0)  # of each position among the visual tokens of the batch
    result = (total / members.clamp(min=1))[ordinal].view(visual.shape).masked_fill(~visual, 0.0)
    has = (members > 0)[ordinal].view(visual.shape) & visual
    beside, around = _both_sides(has.float()), _both_sides(result)
    return torch.where(visual & ~has, around / beside.clamp(min=1), result)


def _both_sides(row: Tensor) -> Tensor:
    """For each position of [B, S] the sum of the one before and the one after it."""
    return pad(row[:, :-1], (1, 0)) + pad(row[:, 1:], (0, 1))


def _reaches(value: Tensor, hidden: Tensor) -> Tensor:
    """BoolTensor[...]: the positions of hidden states [..., d] that a value depends on."""
    (grad,) = torch.autograd.grad(value, [hidden], retain_graph=True, allow_unused=True)
    return torch.zeros_like(hidden[..., 0], dtype=torch.bool) if grad is None else (grad != 0).any(-1)


def _lays_out(name: str, value: Any) -> bool:
    """Whether an argument says what images look like, or how the tower is used."""
    if isinstance(value, Tensor | list | tuple):
        return name not in _TEXT_INPUTS
    return name.startswith(_TOWER_OPTIONS) and value is not None


def _layout(value: Any) -> Any:
    """Part of an argument that decides where patches go: shapes of pixels, contents of sizes and options."""
    if isinstance(value, Tensor):
        return tuple(value.shape), None if value.is_floating_point() else value.cpu().numpy().tobytes()
    return tuple(map(_layout, value)) if isinstance(value, list | tuple) else value


def _for_gradients(value: Any) -> Any:
    """A tensor made in inference mode, which no gradient may pass, as a plain one."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _attentions(layer: nn.Module) -> list[nn.Module]:
    """Modules of a layer that may look up transformers' attention function."""
    return [m for m in layer.modules() if hasattr(getattr(m, "config", None), "_attn_implementation")]


def _refused(why: str) -> PatchError:
    return PatchError(
        f"visual tokens of this model cannot be scored by its vision tower: {why}",
        field="criterion.name",
        value="encoder",
        remedy="use attention or diversity",
    )
