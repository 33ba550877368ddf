"""Prompts of a model of vLLM under a schedule: shorter placeholders, and an image's identity in caches.

A prompt is laid out before any image is encoded: the number of tokens of each image is worked out here, and the choice
is made where features are (`autoprune.engines.vllm.shortened`). An image in the engine's caches is known by a hash;
what a schedule makes of it is part of that, and so is its place among the images of its prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageProcessorItems
from vllm.multimodal.processing import PromptReplacement

from autoprune.engines.vllm.serving import Serving, served
from autoprune.engines.vllm.shortened import ALONE, number_kept
from autoprune.schedule import Schedule

SPANS = "autoprune_spans"
"""Input of a model: of each image the visual tokens before it and of all images of its prompt, int64 [n, 2]."""


class ShortenedPrompts:
    """A mixin before a multi-modal processor of vLLM; without a schedule the processor is as it was."""

    def __init__(self, info: Any, dummy_inputs: Any, **kwargs: Any) -> None:
        super().__init__(info, dummy_inputs, **kwargs)  # type: ignore[call-arg]  # the processor comes next
        self._processor: Any = super()
        self._info = info
        found = served(info.ctx.model_config)
        self._schedule: Schedule | None = found and found[0]
        self._shortens = found is not None and found[1] is Serving.PROMPTS

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Inputs by which the engine measures itself, ending in text as every prompt must."""
        inputs = self._processor.get_dummy_inputs(*args, **kwargs)
        return inputs if self._schedule is None else replace(inputs, prompt=[*inputs.prompt, 0])

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """A prompt ready for the engine.

        Raises:
            ValueError: it holds something else than images where prompts are shortened, ends with an image, or of
                several images one would have no token left.
        """
        if self._shortens:
            spans = self._spans(inputs)
            inputs = replace(inputs, hf_processor_mm_kwargs={**inputs.hf_processor_mm_kwargs, SPANS: spans})
        made = self._processor.apply(inputs, timing_ctx)
        if self._schedule is not None:
            try:
                _check_end(made)
            except ValueError:
                _forget_images(inputs.cache, made)
                raise
        return made

    def n_tokens(self, width: int, height: int, options: Mapping[str, Any]) -> int:
        """Visual tokens of an image of a size, under a request's options of the processor."""
        n: int = self._info.get_num_image_tokens(image_width=width, image_height=height)
        return n

    def _spans(self, inputs: Any) -> list[tuple[int, int]]:
        items, options = inputs.mm_data_items, inputs.hf_processor_mm_kwargs
        counts = items.get_all_counts()
        if any(n for modality, n in counts.items() if modality != "image"):
            raise ValueError("the pruning schedule of this server shortens prompts with images alone: send no videos")
        if counts.get("image", 0) <= 1:
            return [ALONE] * counts.get("image", 0)
        images = items.get_items("image", ImageProcessorItems)
        sizes = [images.get_image_size(i) for i in range(len(images))]
        n = [self.n_tokens(size.width, size.height, options) for size in sizes]
        return [(sum(n[:i]), sum(n)) for i in range(len(n))]

    def _get_mm_hashes(self, inputs: Any) -> Any:
        given = dict(inputs.hf_processor_mm_kwargs)
        spans = given.pop(SPANS, None)
        hashes = self._processor._get_mm_hashes(replace(inputs, hf_processor_mm_kwargs=given))
        if spans is None or self._schedule is None:
            return hashes
        images = zip(hashes.get("image", ()), spans, strict=True)
        return {**hashes, "image": [_identity(image, self._schedule.key, span) for image, span in images]}

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Any) -> Mapping[str, Any]:
        given: Mapping[str, Any] = self._processor._get_cache_missing_processor_kwargs(inputs, mm_is_cached)
        if SPANS not in given:
            return given
        spans = zip(given[SPANS], mm_is_cached.get("image", ()), strict=True)
        return {**given, SPANS: [span for span, is_cached in spans if not is_cached]}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> Any:
        given = dict(hf_kwargs)
        spans = given.pop(SPANS, None)
        data = self._processor._apply_hf_processor_main(mm_items=mm_items, hf_kwargs=given)
        if spans:
            data[SPANS] = torch.tensor(spans)
        return data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        given = dict(hf_processor_mm_kwargs)
        fields = self._processor._get_mm_fields_config(hf_inputs, given)
        if given.pop(SPANS, None):
            fields = {**fields, SPANS: MultiModalFieldConfig.batched("image", keep_on_cpu=True)}
        return dict(fields)

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        given = dict(hf_processor_mm_kwargs)
        spans = given.pop(SPANS, None)
        updates: Sequence[Any] = self._processor._get_prompt_updates(mm_items, given, out_mm_kwargs)
        if spans is None or self._schedule is None:
            return updates
        return [self._shorter(update, spans) if update.modality == "image" else update for update in updates]

    def _shorter(self, update: Any, spans: Sequence[tuple[int, int]]) -> Any:
        assert self._schedule is not None  # it shortens
        stage = self._schedule.stages[0]

        def replacement(i: int) -> list[int]:
            tokens: list[int] = update.replacement(i)
            first, total = spans[i]
            n = number_kept(stage, first, len(tokens), total)
            if n == 0:
                raise ValueError(
                    "the pruning schedule of this server leaves an image of the prompt no token: send fewer"
                )
            return tokens[:n]

        return PromptReplacement(modality=update.modality, target=update.target, replacement=replacement)


def _identity(image: str, schedule: str, span: tuple[int, int]) -> str:
    """Hash of what a schedule makes of an image at its place among those of a prompt."""
    return hashlib.sha256(f"{image} {schedule} {span[0]} {span[1]}".encode()).hexdigest()


def _forget_images(cache: Any, made: Any) -> None:
    """Take images of a refused prompt out of the cache, which notes them as sent to the engine; it never gets them."""
    if cache is not None:
        for image in (image for images in made["mm_hashes"].values() for image in images):
            cache.invalidate(image)


def _check_end(made: Any) -> None:
    length = len(made["prompt_token_ids"])
    if any(place.offset + place.length >= length for places in made["mm_placeholders"].values() for place in places):
        raise ValueError("a prompt must end with text: its last token is answered from, and visual tokens are dropped")
