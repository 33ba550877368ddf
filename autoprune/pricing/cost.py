"""The price of a schedule: true FLOPs and KV bytes, from shapes alone, so also for models that are not loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from autoprune.pricing.architecture import Architecture
from autoprune.pricing.scoring import matching_macs, selection_macs
from autoprune.pricing.tokens import PromptCounts, check_counts, check_layers, tokens_per_layer, visual_alive
from autoprune.schedule import Schedule, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DECODER_PARTS = ("projections", "attention", "feed_forward", "scoring")
DEFAULT_DTYPE_BYTES = 2  # half precision, where the config names no dtype
_PRICES_KEPT = 2**14  # a schedule's samples are priced together
CONVENTION = (
    "True FLOPs, 2 per multiply-add, of matrix products, convolutions and attention, n x n counted in full; norms, "
    "softmax, activations and rotary embedding are not counted. ratio: decoder layers over the whole prompt, text "
    "included, plus scoring. ratio_end_to_end: adds vision tower and projector, counted on the images themselves, one "
    "head row and the generated tokens."
)
"""What every `Cost` counts, as text."""


@dataclass(frozen=True)
class Cost:
    """Cost of one prompt, pruned and dense. All ``*flops`` count 2 per multiply-add.

    Attributes:
        parts: FLOPs of the pruned run: `projections`, `attention` (QK^T and AV; a latent cache is expanded; a layer
            without attention: its recurrence) and `feed_forward` of the decoder layers in the prefill, `scoring`,
            `head` (one row), `decode` (generated tokens, head included), and `vision` (tower and projector), which is
            missing where its cost is not known.
        parts_dense: The same of the dense run.
        kv_bytes: Key and value bytes of the cache after the prefill, and after the decode steps if there are any; the
            states of recurrent layers, whose size no pruning changes, are not among them.
        kv_bytes_dense: The same of the dense run.
        convention: What is counted and what is not, in one paragraph.
    """

    parts: dict[str, int]
    parts_dense: dict[str, int]
    kv_bytes: int
    kv_bytes_dense: int
    convention: str

    @property
    def decoder_flops(self) -> int:
        """Decoder layers over the whole prompt, text included, plus scoring: the numerator of `ratio`."""
        return _decoder(self.parts)

    @property
    def decoder_flops_dense(self) -> int:
        """The denominator of `ratio`."""
        return _decoder(self.parts_dense)

    @property
    def end_to_end_flops(self) -> int | None:
        """FLOPs of all parts; None if the vision part has no price."""
        return _whole(self.parts)

    @property
    def end_to_end_flops_dense(self) -> int | None:
        """All parts of the dense run; None if the vision part has no price."""
        return _whole(self.parts_dense)

    @property
    def flops(self) -> int | None:
        """Everything that the run computes, as an operation counter sees it (= `end_to_end_flops`)."""
        return self.end_to_end_flops

    @property
    def flops_dense(self) -> int | None:
        """`flops` of the dense run."""
        return self.end_to_end_flops_dense

    @property
    def macs(self) -> int | None:
        """Multiply-adds, half of `flops`."""
        return None if self.flops is None else self.flops // 2

    @property
    def ratio(self) -> float:
        """Decoder layers over the whole prompt plus scoring, pruned / dense; head, tower and projector excluded."""
        return self.decoder_flops / self.decoder_flops_dense

    @property
    def ratio_end_to_end(self) -> float | None:
        """All parts, pruned / dense: adds tower, projector, one head row and the generated tokens.

        None if the vision part has no price.
        """
        pruned, dense = self.end_to_end_flops, self.end_to_end_flops_dense
        return None if pruned is None or dense is None else pruned / dense

    @property
    def kv_ratio(self) -> float:
        """KV bytes, pruned / dense."""
        return self.kv_bytes / self.kv_bytes_dense


def cost(
    config: PreTrainedConfig | Architecture,
    schedule: Schedule,
    visual_tokens: int = 576,
    text_tokens: int = 64,
    new_tokens: int = 0,
    *,
    text_before: int = 0,
    text_as_visual: int = 0,
    kept: Sequence[int] | None = None,
    images: int = 1,
    vision_flops: int | None = None,
    dtype_bytes: int | None = None,
) -> Cost:
    """Price a schedule for one prompt.

    Args:
        config: A transformers config, or the `Architecture` made from it once.
        schedule: What is pruned.
        visual_tokens: Visual tokens of the prompt before any stage.
        text_tokens: All other tokens of the prompt.
        new_tokens: Tokens that ``generate()`` returns. The first comes out of the prefill and the last is never fed
            back, so there are ``new_tokens - 1`` decode steps.
        text_before: Text tokens before the first visual one; they never vote under ``rows: text``. The default 0
            prices the most rows.
        text_as_visual: Text tokens that go to the experts of images, where these have experts of their own: the tokens
            at the start and end of an image.
        kept: Visual tokens alive after each stage; needed where `keep` is a mass or threshold and depends on the input.
        images: Passes of a vision tower whose passes all cost the same: images, or tiles where the processor cuts an
            image into several.
        vision_flops: FLOPs of vision tower and projector for this prompt, as `pricing.counting.vision_flops` counts
            them; default: from the config, for towers whose passes all cost the same, else they have no price.
        dtype_bytes: Bytes of one number in the cache; default: as the config's dtype, else 2.

    Raises:
        ModelError: The decoder's structure is not known, or the schedule does not fit the model.
        ScheduleError: `kept` is missing or contradicts the schedule, or a criterion has no price.
        DataError: A token count is negative or the prompt is empty.
    """
    check_counts(visual_tokens, text_tokens, new_tokens, text_before, text_as_visual, images)
    if isinstance(config, Architecture):
        architecture = config
    else:
        schedule.check_model(config)
        architecture = Architecture.from_config(config)
    check_layers(schedule, len(architecture.layers))
    alive = visual_alive(schedule, visual_tokens, kept)
    tokens = tokens_per_layer(schedule, alive, text_tokens, len(architecture.layers))
    dense_tokens = [text_tokens + visual_tokens] * len(tokens)
    text_rows, words = text_tokens - text_before, text_tokens - text_as_visual
    scoring = matching_macs(architecture, schedule, visual_tokens, text_rows) + sum(
        selection_macs(architecture, stage, before, after, text_tokens, text_rows)
        for stage, (before, after) in zip(schedule.stages, pairwise(alive), strict=True)
    )
    steps = max(new_tokens - 1, 0)
    if vision_flops is None:
        vision_flops = architecture.vision_flops(images if visual_tokens else 0)
    if not architecture.is_whole:
        vision_flops = None
    bytes_each = dtype_bytes or architecture.dtype_bytes or DEFAULT_DTYPE_BYTES
    return Cost(
        parts=_parts(architecture, tokens, words, scoring, steps, vision_flops),
        parts_dense=_parts(architecture, dense_tokens, words, 0, steps, vision_flops),
        kv_bytes=_kv_numbers(architecture, tokens, steps) * bytes_each,
        kv_bytes_dense=_kv_numbers(architecture, dense_tokens, steps) * bytes_each,
        convention=_convention(visual_tokens, text_tokens, new_tokens, vision_flops, bytes_each),
    )


def flops_ratio(prices: Sequence[Cost]) -> float:
    """Prefill FLOPs over dense of several prompts: the sum of pruned over the sum of dense."""
    return sum(price.decoder_flops for price in prices) / sum(price.decoder_flops_dense for price in prices)


class Pricer:
    """The prices of samples of one model; equal token counts are priced once.

    Args:
        config: The model's config.
        dtype_bytes: Bytes of one number in the KV cache.

    Raises:
        ModelError: the structure of the model is not known.
    """

    def __init__(self, config: PreTrainedConfig, dtype_bytes: int) -> None:
        # The vision part is counted for each sample, or has no price.
        self._architecture = replace(Architecture.from_config(config), vision=None, unpriced="not counted")
        self._dtype_bytes = dtype_bytes
        self._known: dict[tuple[tuple[Stage, ...], PromptCounts, tuple[int, ...]], Cost] = {}

    def price(self, schedule: Schedule, counts: PromptCounts, kept: Sequence[int]) -> Cost:
        """The price of one sample.

        Args:
            schedule: The schedule.
            counts: Of the sample.
            kept: Visual tokens alive after each stage.
        """
        key = (schedule.stages, counts, tuple(kept))
        if key not in self._known:
            if len(self._known) >= _PRICES_KEPT:
                self._known.clear()
            self._known[key] = cost(
                self._architecture,
                schedule,
                counts.visual,
                counts.text,
                counts.new,
                text_before=counts.text_before,
                text_as_visual=counts.text_as_visual,
                kept=kept,
                vision_flops=counts.vision_flops,
                dtype_bytes=self._dtype_bytes,
            )
        return self._known[key]


def _decoder(parts: dict[str, int]) -> int:
    return sum(parts[name] for name in DECODER_PARTS)


def _whole(parts: dict[str, int]) -> int | None:
    return sum(parts.values()) if "vision" in parts else None


def _parts(
    architecture: Architecture, tokens: Sequence[int], words: int, scoring: int, steps: int, vision_flops: int | None
) -> dict[str, int]:
    projections = attention = feed_forward = decode = 0
    for (layer, n), times in Counter(zip(architecture.layers, tokens, strict=True)).items():
        projections += times * n * layer.projection_macs
        attention += times * layer.mixing_macs(n)
        feed_forward += times * layer.feed_forward_macs(n, words)
        decode += times * layer.decode_macs(n, steps)
    macs = {
        "projections": projections,
        "attention": attention,
        "feed_forward": feed_forward,
        "scoring": scoring,
        "head": architecture.head_macs,
        "decode": decode + steps * architecture.head_macs,
    }
    flops = {name: 2 * value for name, value in macs.items()}
    return flops if vision_flops is None else {**flops, "vision": vision_flops}


def _kv_numbers(architecture: Architecture, tokens: Sequence[int], steps: int) -> int:
    return sum(layer.cached(n + steps) * layer.kv_width for layer, n in zip(architecture.layers, tokens, strict=True))


def _convention(visual: int, text: int, new: int, vision_flops: int | None, bytes_each: int) -> str:
    return (
        f"{CONVENTION} Prompt: visual tokens {visual}, text tokens {text}. Generated: {new} tokens, decode steps "
        f"{max(new - 1, 0)}. KV: {bytes_each} bytes per number."
        + (" Attention: vision tower and projector are NOT priced." if vision_flops is None else "")
    )
